"""From facts to files: chooses what becomes rows, and writes the groups of files that hold others than the parent's."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedback.cells import BUCKETS, PROMPTS, VOTES, Cell
from feedback.datasets import facts, selection
from feedback.datasets.arrays import Bools, Hashes, Ints, column, joined, mix, moments, wide
from feedback.datasets.crew import Crew
from feedback.datasets.draft import Draft
from feedback.datasets.gathering import Progress
from feedback.datasets.index import Group, Index, facts_path
from feedback.datasets.opening import Opener, PromptsOf, RowsOf, Wanted
from feedback.datasets.selection import Chosen, Texts
from feedback.datasets.split import GATE, REPORT, TEST, TRAIN
from infra.settings import FeedbackSettings

CHOOSING = (
    "event_id", "turn", "occurred_at", "ai", "check", "rater_at", "prompt_at", "prompt", "asked", "stance", "pairing",
    "made_of", "claims", "denials", "digests",
)  # fmt: skip
PROMPT_SPLITS = (REPORT, GATE, TRAIN)  # as they follow each other between 0 and 1


@dataclass(frozen=True)
class Bucket:
    """The facts of one bucket's cells, one cell after the other."""

    cells: Sequence[Cell]
    cell_N: Ints  # the place in `cells` of each row
    table: pa.Table


@dataclass
class Composing:
    """One dataset's rows. Facts are read bucket by bucket, columns as they are needed."""

    crew: Crew[Opener]
    draft: Draft
    index: Index
    opened: Collection[Cell]  # whose rows are kept aside
    settings: FeedbackSettings
    progress: Progress
    filtered: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)  # cells, for who watches

    def judged(self, known: Mapping[str, Group]) -> dict[int, Chosen]:
        """Writes the judged tables; returns what was chosen, by bucket."""
        chosen = {number: selection.choose(bucket.table, self.settings) for number, bucket in self._buckets()}
        held = Texts.of(selection.held_from_models(bucket.table, chosen[number]) for number, bucket in self._buckets())
        for number, bucket in self._buckets():
            chosen[number] = selection.yield_to_people(bucket.table, chosen[number], held)
        texts = Texts.of(selection.trained_on(bucket.table, chosen[number]) for number, bucket in self._buckets())
        for number, bucket in self._buckets():
            chosen[number] = selection.drop_leaks(bucket.table, chosen[number], texts)
            self.filtered += chosen[number].dropped
            self._write_bucket(bucket, chosen[number], known)
        return chosen

    def prompts(self, known: Mapping[str, Group]) -> None:
        """Writes the prompts: each once, where it was asked first."""
        bucket = self._read(PROMPTS, facts.PROMPTS, facts.PROMPTS.names, None)
        if bucket is None:
            return
        first_N, at_N = selection.first_asked(bucket.table), column(bucket.table, "prompt_at")
        split_N = np.digitize(at_N, np.cumsum([self.settings.report_share, self.settings.gate_share]))
        tasks = list[PromptsOf]()
        content_N = joined(*wide(bucket.table, "event_id"), moments(bucket.table, "occurred_at").astype(np.uint64))
        for place, cell in enumerate(bucket.cells):
            here_N, wanted = first_N & (bucket.cell_N == place), list[Wanted]()
            for number, split in enumerate(PROMPT_SPLITS):
                mine_N = here_N & (split_N == number)
                if content := self._new(f"prompts-{split}/{cell}", content_N[mine_N], known):
                    wanted.append(Wanted(split, content, _events(bucket.table, np.flatnonzero(mine_N))))
            tasks += [PromptsOf(cell, wanted)] if wanted else []
        self._write("prompts", tasks, "prompts-")

    def _write_bucket(self, bucket: Bucket, chosen: Chosen, known: Mapping[str, Group]) -> None:
        content_N, pairing_N = selection.content_N(bucket.table, chosen), column(bucket.table, "pairing")
        paired_N, tasks = chosen.kept_N & _in_company(pairing_N, chosen.kept_N), list[RowsOf]()
        paired = np.flatnonzero(paired_N)
        for place, cell in enumerate(bucket.cells):
            here_N, wanted = bucket.cell_N == place, list[Wanted]()
            for split in (TRAIN, TEST):
                mine_N = chosen.split_N(split) & here_N
                if content := self._new(f"{split}/{cell}", content_N[mine_N], known):
                    partners = paired[np.isin(pairing_N[paired], pairing_N[mine_N & paired_N])]
                    keys = (facts.keys(bucket.table, some) for some in (np.flatnonzero(mine_N), partners))
                    wanted.append(Wanted(split, content, *keys))
            tasks += [RowsOf(cell, wanted, kept_aside=cell in self.opened)] if wanted else []
        self._write("rows", tasks, "")

    def _write(self, what: str, tasks: Sequence[RowsOf | PromptsOf], prefix: str) -> None:
        """`prefix` is that of the groups' names."""
        for task, made in zip(tasks, self.crew.each(tasks), strict=True):
            for wanted, files in zip(task.wanted, made, strict=True):
                self.index.groups[f"{prefix}{wanted.split}/{task.cell}"] = Group(content=wanted.content, files=files)
            self.written[what] += 1
            self.progress(what, self.written[what], self._cells[what])

    @cached_property
    def _cells(self) -> Mapping[str, int]:
        """At most so many are to be written."""
        return {"rows": len(self.index.cells[VOTES]), "prompts": len(self.index.cells[PROMPTS])}

    def _new(self, name: str, content_N: Hashes, known: Mapping[str, Group]) -> str:
        """What this group of files is to hold; empty where it is nothing, or what the parent's holds."""
        content = _content(content_N) if len(content_N) else ""
        return "" if self._keep(name, content, known) else content

    def _keep(self, name: str, content: str, known: Mapping[str, Group]) -> bool:
        group = known.get(name)
        if group is None or group.content != content or not self.draft.keep(*(file.path for file in group.files)):
            return False
        self.index.groups[name] = group
        return True

    def _buckets(self) -> Iterator[tuple[int, Bucket]]:
        for number in range(BUCKETS):
            if (bucket := self._read(VOTES, facts.JUDGEMENTS, CHOOSING, number)) is not None:
                yield number, bucket

    def _read(self, kind: str, schema: pa.Schema, columns: Sequence[str], number: int | None) -> Bucket | None:
        return read_bucket(self.draft, self.index, kind, schema, columns, number)


def read_bucket(
    draft: Draft, index: Index, kind: str, schema: pa.Schema, columns: Sequence[str], number: int | None
) -> Bucket | None:
    """One bucket's facts, or all; None where there are none."""
    entries = sorted(index.entries(kind).items())
    cells = [cell for cell, entry in entries if entry.rows and number in (None, cell.bucket)]
    if not cells:
        return None
    tables = [draft.read(facts_path(kind, cell), schema, columns) for cell in cells]
    cell_N = np.repeat(np.arange(len(cells)), [len(table) for table in tables])
    return Bucket(cells, cell_N, pa.concat_tables(tables))


def _events(table: pa.Table, places: Ints) -> pa.Array:
    return table["event_id"].take(pa.array(places)).combine_chunks()


def _in_company(pairing_N: NDArray[Any], among_N: Bools) -> Bools:
    """Thumbs that are not the only one of their rater on their prompt."""
    asked, count = np.unique(pairing_N[among_N], return_counts=True)
    return np.isin(pairing_N, asked[(count > 1) & (asked != 0)])


def _content(hashes_N: Hashes) -> str:
    """The same for the same rows in any order."""
    with np.errstate(over="ignore"):
        return f"{len(hashes_N):x}-{int(mix(hashes_N).sum(dtype=np.uint64)):016x}"
