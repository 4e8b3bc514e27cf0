"""From facts to files: chooses what becomes rows, and writes the groups of files that hold others than the parent's."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from feedback import facts, pairs, selection
from feedback.archive import Archive
from feedback.arrays import Bools, Hashes, Ints, column, joined, mix, wide
from feedback.cells import BUCKETS, Cell
from feedback.draft import Draft
from feedback.exchange import Exchange
from feedback.facts import event_id
from feedback.gathering import Progress
from feedback.index import PROMPTS, VOTES, Group, Index, facts_path
from feedback.join import join
from feedback.rows import Row
from feedback.selection import Chosen, Texts
from feedback.shards import write_rows
from feedback.split import GATE, REPORT, TEST, TRAIN
from infra.settings import FeedbackSettings

CHOOSING = (
    "event_id", "occurred_at", "check", "rater_at", "prompt_at", "prompt", "asked", "stance", "pairing", "made_of",
    "claims", "denials", "digests",
)  # fmt: skip
PROMPT_SPLITS = (TRAIN, GATE, REPORT)


@dataclass(frozen=True)
class Bucket:
    """The facts of one bucket's cells, one cell after the other."""

    cells: Sequence[Cell]
    cell_N: Ints  # the place in `cells` of each row
    table: pa.Table


@dataclass
class Composing:
    """One dataset's rows. Facts are read bucket by bucket, columns as they are needed."""

    archive: Archive
    draft: Draft
    index: Index
    settings: FeedbackSettings
    alias: str
    progress: Progress
    filtered: Counter[str] = field(default_factory=Counter)

    def judged(self, known: Mapping[str, Group]) -> dict[int, Chosen]:
        """Writes the judged tables; returns what was chosen, by bucket."""
        chosen = {number: selection.choose(bucket.table, self.settings) for number, bucket in self._buckets()}
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
        report, gate = self.settings.report_share, self.settings.report_share + self.settings.gate_share
        edges = {REPORT: (0.0, report), GATE: (report, gate), TRAIN: (gate, 1.0)}
        content_N = joined(*wide(bucket.table, "event_id"))
        for place, cell in enumerate(bucket.cells):
            here_N = first_N & (bucket.cell_N == place)
            for split in PROMPT_SPLITS:
                low, high = edges[split]
                mine_N = here_N & (at_N >= low) & (at_N < high)
                if mine_N.any() and not self._keep(f"prompts-{split}/{cell}", _content(content_N[mine_N]), known):
                    self._write_prompts(bucket.table, mine_N, split, cell, _content(content_N[mine_N]))

    def _write_bucket(self, bucket: Bucket, chosen: Chosen, known: Mapping[str, Group]) -> None:
        content_N = selection.content_N(bucket.table, chosen)
        for place, cell in enumerate(bucket.cells):
            self.progress("rows", place, len(bucket.cells))
            here_N = bucket.cell_N == place
            for split in (TRAIN, TEST):
                mine_N = chosen.split_N(split) & here_N
                content = _content(content_N[mine_N])
                if mine_N.any() and not self._keep(f"{split}/{cell}", content, known):
                    rows = self._rows(bucket.table, mine_N, chosen.kept_N)
                    files = write_rows(self.draft, (row for row in rows if row.cell == cell), split, cell)
                    self.index.groups[f"{split}/{cell}"] = Group(content=content, files=files)

    def _rows(self, table: pa.Table, mine_N: Bools, kept_N: Bools) -> list[Row]:
        """Thumbs bring those along that they are paired with, whichever cell these are in."""
        pairing_N = column(table, "pairing")
        partners_N = kept_N & (pairing_N != 0) & np.isin(pairing_N, pairing_N[mine_N])
        votes = self.archive.votes_of(_ids(table, mine_N | partners_N))
        judgements, _ = join(votes, self.archive.answers_to(votes), self.alias)
        return pairs.make_rows(judgements)

    def _write_prompts(self, table: pa.Table, mine_N: Bools, split: str, cell: Cell, content: str) -> None:
        found = self.archive.answers_of(_ids(table, mine_N)).values()
        rows = pairs.make_prompts(one for one in found if isinstance(one, Exchange))
        files = write_rows(self.draft, rows, split, cell)
        self.index.groups[f"prompts-{split}/{cell}"] = Group(content=content, files=files)

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


def _ids(table: pa.Table, chosen_N: Bools) -> list[str]:
    return [event_id(value) for value in table["event_id"].filter(pa.array(chosen_N)).to_pylist()]


def _content(hashes_N: Hashes) -> str:
    """The same for the same rows in any order."""
    with np.errstate(over="ignore"):
        return f"{len(hashes_N):x}-{int(mix(hashes_N).sum(dtype=np.uint64)):016x}"
