"""Facts of every cell: opened and looked at where something changed, taken over from the parent elsewhere."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from feedback.cells import PROMPTS, VOTES, Cell
from feedback.datasets import facts, index, rows
from feedback.datasets.archive import Changes
from feedback.datasets.crew import Crew
from feedback.datasets.draft import Draft
from feedback.datasets.index import CellEntry, Index, facts_path
from feedback.datasets.opening import FactsOf, Opener
from feedback.tables import InferenceRow, VoteEventRow
from infra.settings import FeedbackSettings

# The settings that facts depend on.
SHAPING = ("too_fast_share", "too_fast_words_per_second", "redact_pii", "redact_region")
NOTHING = CellEntry(rows=0)
DAYS_EACH = 2  # with fewer of them for each process, days are taken apart
Named = tuple[str, Cell]  # a cell of one kind
Progress = Callable[[str, int, int], None]  # what, done, of how many


def facts_key(settings: FeedbackSettings) -> str:
    known = {"version": facts.VERSION, "rows": rows.VERSION, **{name: getattr(settings, name) for name in SHAPING}}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Before:
    """What the parent's index knows of the days from `start` on, and what has changed since."""

    index: Index
    changes: Changes
    start: datetime


@dataclass(frozen=True)
class Gathering:
    """Puts the facts of each cell into the draft."""

    opener: Opener
    crew: Crew[Opener]
    progress: Progress

    def run(self, before: Before | None) -> tuple[Index, frozenset[Cell]]:
        """The index, and the cells of votes that were opened for it."""
        archive = self.opener.archive
        cells = [(VOTES, cell) for cell in archive.cells(VoteEventRow)]
        cells += [(PROMPTS, cell) for cell in archive.cells(InferenceRow)]
        kept = self._kept(cells, before) if before else {}
        made = self._made([one for one in cells if one not in kept])
        entries: dict[str, dict[str, CellEntry]] = {VOTES: {}, PROMPTS: {}}
        for kind, cell in cells:
            entry = kept.get((kind, cell)) or made[kind, cell]
            if entry != NOTHING:
                entries[kind][str(cell)] = entry
        opened = frozenset(cell for kind, cell in made if kind == VOTES)
        return Index(key=facts_key(self.opener.settings), cells=entries), opened

    def _kept(self, cells: Iterable[Named], before: Before) -> dict[Named, CellEntry]:
        """Those of the parent that nothing has changed in since."""
        changed = {VOTES: before.changes.votes(), PROMPTS: before.changes.answers()}
        known = {kind: before.index.entries(kind) for kind in changed}
        found = {}
        for kind, cell in cells:
            entry = known[kind].get(cell, NOTHING)
            if cell not in changed[kind] and cell.start >= before.start and self._keep(kind, cell, entry):
                found[kind, cell] = entry
        return found

    def _keep(self, kind: str, cell: Cell, entry: CellEntry) -> bool:
        same = entry.holds(self.opener.as_of)
        return same and (not entry.rows or self.opener.draft.keep(facts_path(kind, cell)))

    def _made(self, cells: Sequence[Named]) -> dict[Named, CellEntry]:
        tasks, made = self._tasks(cells), dict[Named, CellEntry]()
        for entries in self.crew.each(tasks):
            made |= {(kind, cell): entry for kind, cell, entry in entries}
            self.progress("events", len(made), len(cells))
        return made

    def _tasks(self, cells: Iterable[Named]) -> list[FactsOf]:
        """Day by day, since votes are mostly on answers of their day."""
        days = defaultdict[date, list[Named]](list)
        for kind, cell in sorted(cells, key=lambda one: one[1]):
            days[cell.day].append((kind, cell))
        if len(days) >= DAYS_EACH * self.crew.processes:
            return [FactsOf(some) for some in days.values()]
        return [FactsOf([one]) for some in days.values() for one in some]


def read_index(draft: Draft, settings: FeedbackSettings) -> Index | None:
    """The parent's, if it is there and its facts were made as ours are."""
    stored = draft.parent_bytes(index.CELLS)
    known = Index.model_validate_json(stored) if stored else None
    return known if known and known.key == facts_key(settings) else None
