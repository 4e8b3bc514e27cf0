"""Opens the events of one cell, and makes facts and rows of them: what is done for each cell by itself, by anybody."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from feedback.cells import PROMPTS, VOTES, Cell
from feedback.datasets import facts, pairs
from feedback.datasets.archive import Archive
from feedback.datasets.candidates import Candidates
from feedback.datasets.draft import Draft
from feedback.datasets.facts import event_id
from feedback.datasets.index import CellEntry, facts_path
from feedback.datasets.selection import held_out
from feedback.datasets.shards import tables_of, write_rows, write_tables
from feedback.datasets.voting import rateable_versions, voted_versions
from feedback.filters import chain
from feedback.judgements.exchange import Exchange
from feedback.judgements.join import join
from feedback.judgements.judgement import Judgement
from feedback.votes import Answered, Vote
from infra.contracts.events import Envelope
from infra.contracts.manifests import FileEntry
from infra.settings import FeedbackSettings


def no_keys() -> pa.Array:
    return pa.array([], pa.binary())


@dataclass(frozen=True)
class Wanted:
    """What one split gets of a cell: what comes of these, and of thumbs together with those of other cells.

    Judgements are named by their keys, prompts by the 16 bytes of their events' ids. `content` is a hash of all that.
    """

    split: str
    content: str
    names: pa.Array
    thumbs: pa.Array = field(default_factory=no_keys)


@dataclass(frozen=True)
class Opener:
    """Has no state but what lies on disk, so that it can be copied to other processes."""

    archive: Archive
    draft: Draft
    candidates: Candidates
    settings: FeedbackSettings
    alias: str
    as_of: datetime

    def votes(self, cell: Cell) -> CellEntry:
        """Writes the facts of a cell's votes, and keeps the rows that they may become."""
        filters, found = chain.make_chain(self.settings, self.as_of), _Found(self.as_of)
        for piece, (votes, lost) in enumerate(self.archive.votes(cell)):
            judgements, unjoined = join(votes, self.archive.answers_to(votes), self.alias)
            kept, dropped = chain.apply(filters, judgements)
            found.by_version.update(voted_versions(judgements))
            found.filtered += Counter(lost) + unjoined + dropped
            if kept:
                table = facts.judgement_facts(kept)
                found.add(table, (judgement.vote for judgement in kept), _envelopes(kept))
                hopeless = held_out(table, self.settings).tolist()
                self.candidates.put(cell, piece, (one for one, out in zip(kept, hopeless, strict=True) if not out))
        return self._written(VOTES, cell, found)

    def prompts(self, cell: Cell) -> CellEntry:
        """Writes the facts of what was asked in a cell."""
        found = _Found(self.as_of)
        for exchanges in self.archive.answers(cell):
            found.by_version.update(rateable_versions(exchanges, self.alias))
            if asked := [one for one in exchanges if self._may_be_asked(one)]:
                events = [one.event for one in asked]
                found.add(facts.prompt_facts(asked), events, (event.envelope for event in events))
        return self._written(PROMPTS, cell, found)

    def rows(self, cell: Cell, wanted: Wanted, *, kept_aside: bool) -> list[FileEntry]:
        """Writes the judged rows of one split and cell: of those kept aside, or of their events opened once more."""
        if not kept_aside:
            everything = self._judgements(pa.concat_arrays([wanted.names, wanted.thumbs]).unique())
            made = pairs.make_rows(everything)
            return write_rows(self.draft, (row for row in made if row.cell == cell), wanted.split, cell)
        tables = self.candidates.take(cell, wanted.names)
        paired = pairs.paired_rows(self._judgements(wanted.thumbs)) if len(wanted.thumbs) else []
        for kind, more in tables_of(row for row in paired if row.cell == cell).items():
            tables[kind] = pa.concat_tables([tables[kind], more]) if kind in tables else more
        ordered = {kind: table.sort_by("pair_id").combine_chunks() for kind, table in tables.items()}
        return write_tables(self.draft, ordered, wanted.split, cell)

    def prompt_rows(self, cell: Cell, wanted: Wanted) -> list[FileEntry]:
        """Writes the prompts of one split that were first asked in a cell."""
        found = self.archive.answers_of(cell, _ids(wanted.names)).values()
        rows = pairs.make_prompts(one for one in found if isinstance(one, Exchange))
        return write_rows(self.draft, rows, wanted.split, cell)

    def _judgements(self, keys: pa.Array) -> list[Judgement]:
        wanted, votes = set(keys.to_pylist()), self.archive.votes_of(_ids(keys))
        joined, _ = join(votes, self.archive.answers_to(votes), self.alias)
        return [judgement for judgement in joined if judgement.key in wanted]

    def _written(self, kind: str, cell: Cell, found: "_Found") -> CellEntry:
        if found.tables:
            self.draft.write(facts_path(kind, cell), pa.concat_tables(found.tables).unify_dictionaries())
        return found.entry()

    def _may_be_asked(self, exchange: Exchange) -> bool:
        """A prompt needs its owner's consent only, for as long as it may be kept."""
        end = exchange.event.envelope.consent.retain_until
        mine = exchange.event.body.alias == self.alias and exchange.event.body.check is None
        return bool(mine and exchange.owner.train and exchange.prompt) and (end is None or end > self.as_of)


class _Found:
    """One cell's facts, piece by piece."""

    def __init__(self, as_of: datetime) -> None:
        self.tables = list[pa.Table]()
        self.filtered, self._redacted, self.by_version = Counter[str](), Counter[str](), Counter[str]()
        self._as_of, self._expires_at = as_of, list[datetime]()

    def add(self, table: pa.Table, events: Iterable[Answered | Vote], envelopes: Iterable[Envelope]) -> None:
        self.tables.append(table)
        for event in events:
            if event.redacted:
                self._redacted.update(event.redacted)
        ends = {one.consent.retain_until for one in envelopes} - {None}
        self._expires_at += [end for end in ends if end is not None and end > self._as_of]

    def entry(self) -> CellEntry:
        return CellEntry(
            rows=sum(len(table) for table in self.tables),
            filtered=dict(sorted(self.filtered.items())),
            redacted=dict(sorted(self._redacted.items())),
            by_version=dict(sorted(self.by_version.items())),
            expires_at=min(self._expires_at, default=None),
        )


@dataclass(frozen=True)
class FactsOf:
    """Some cells' facts; answers before the votes on them, which need not open them again then."""

    cells: Sequence[tuple[str, Cell]]

    def run(self, opener: Opener) -> list[tuple[str, Cell, CellEntry]]:
        make = {VOTES: opener.votes, PROMPTS: opener.prompts}
        return [(kind, cell, make[kind](cell)) for kind, cell in sorted(self.cells)]


@dataclass(frozen=True)
class RowsOf:
    """One cell's files of judged rows, for each split wanted."""

    cell: Cell
    wanted: Sequence[Wanted]
    kept_aside: bool

    def run(self, opener: Opener) -> list[list[FileEntry]]:
        made = [opener.rows(self.cell, one, kept_aside=self.kept_aside) for one in self.wanted]
        opener.candidates.drop(self.cell)
        return made


@dataclass(frozen=True)
class PromptsOf:
    """One cell's files of prompts, for each split wanted."""

    cell: Cell
    wanted: Sequence[Wanted]

    def run(self, opener: Opener) -> list[list[FileEntry]]:
        return [opener.prompt_rows(self.cell, one) for one in self.wanted]


def _envelopes(judgements: Iterable[Judgement]) -> Iterable[Envelope]:
    for judgement in judgements:
        yield judgement.vote.envelope
        yield from (exchange.event.envelope for exchange in judgement.exchanges)


def _ids(names: pa.Array) -> list[str]:
    """Of the events, each once: a conversation's turns are of one vote."""
    return list(dict.fromkeys(event_id(value) for value in names.to_pylist()))
