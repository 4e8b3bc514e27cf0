"""Facts of every cell: opened and looked at where something changed, taken over from the parent elsewhere."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from feedback import facts, index
from feedback.archive import Archive, Changes
from feedback.cells import Cell
from feedback.draft import Draft
from feedback.exchange import Exchange
from feedback.filters import chain
from feedback.index import PROMPTS, VOTES, CellEntry, Index, facts_path
from feedback.join import join
from feedback.judgement import Judgement
from feedback.tables import InferenceRow, VoteEventRow
from feedback.votes import Answered, Vote
from infra.contracts.events import Envelope
from infra.settings import FeedbackSettings

# The settings that facts depend on.
SHAPING = ("too_fast_share", "too_fast_words_per_second", "redact_pii", "redact_region")
NOTHING = CellEntry(rows=0)
Make = Callable[[Cell], CellEntry]
Progress = Callable[[str, int, int], None]  # what, done, of how many


def facts_key(settings: FeedbackSettings) -> str:
    known = {"version": facts.VERSION, **{name: getattr(settings, name) for name in SHAPING}}
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

    archive: Archive
    draft: Draft
    settings: FeedbackSettings
    alias: str
    as_of: datetime
    progress: Progress

    def run(self, before: Before | None) -> Index:
        votes, answers = (before.changes.votes(), before.changes.answers()) if before else (set[Cell](), set[Cell]())
        cells = {VOTES: self.archive.cells(VoteEventRow), PROMPTS: self.archive.cells(InferenceRow)}
        found = {
            VOTES: self._all(VOTES, cells[VOTES], before, votes, self._votes),
            PROMPTS: self._all(PROMPTS, cells[PROMPTS], before, answers, self._prompts),
        }
        return Index(key=facts_key(self.settings), cells=found)

    def _all(
        self, kind: str, cells: Sequence[Cell], before: Before | None, changed: set[Cell], make: Make
    ) -> dict[str, CellEntry]:
        known = before.index.entries(kind) if before else {}
        made: dict[str, CellEntry] = {}
        for done, cell in enumerate(cells):
            self.progress(kind, done, len(cells))
            entry = known.get(cell, NOTHING)
            new = before is None or cell in changed or cell.start < before.start
            if new or not self._keep(kind, cell, entry):
                entry = make(cell)
            if entry != NOTHING:
                made[str(cell)] = entry
        return made

    def _keep(self, kind: str, cell: Cell, entry: CellEntry) -> bool:
        return entry.holds(self.as_of) and (not entry.rows or self.draft.keep(facts_path(kind, cell)))

    def _votes(self, cell: Cell) -> CellEntry:
        votes, lost = self.archive.votes(cell)
        judgements, unjoined = join(votes, self.archive.answers_to(votes), self.alias)
        kept, dropped = chain.apply(chain.make_chain(self.settings, self.as_of), judgements)
        if kept:
            self.draft.write(facts_path(VOTES, cell), facts.judgement_facts(kept))
        filtered = Counter(lost) + unjoined + dropped
        return CellEntry(
            rows=len(kept),
            filtered=dict(sorted(filtered.items())),
            redacted=_redacted(judgement.vote for judgement in kept),
            expires_at=_expiry(_envelopes(kept), self.as_of),
        )

    def _prompts(self, cell: Cell) -> CellEntry:
        asked = [one for one in self.archive.answers(cell) if self._may_be_asked(one)]
        if asked:
            self.draft.write(facts_path(PROMPTS, cell), facts.prompt_facts(asked))
        return CellEntry(
            rows=len(asked),
            redacted=_redacted(one.event for one in asked),
            expires_at=_expiry((one.event.envelope for one in asked), self.as_of),
        )

    def _may_be_asked(self, exchange: Exchange) -> bool:
        """A prompt needs its owner's consent only, for as long as it may be kept."""
        end = exchange.event.envelope.consent.retain_until
        mine = exchange.event.body.alias == self.alias and exchange.event.body.check is None
        return bool(mine and exchange.owner.train and exchange.prompt) and (end is None or end > self.as_of)


def _envelopes(judgements: Iterable[Judgement]) -> Iterable[Envelope]:
    for judgement in judgements:
        yield judgement.vote.envelope
        yield from (exchange.event.envelope for exchange in judgement.exchanges)


def _redacted(events: Iterable[Answered | Vote]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for event in events:
        found.update(event.redacted)
    return dict(sorted(found.items()))


def _expiry(envelopes: Iterable[Envelope], as_of: datetime) -> datetime | None:
    """When the first of them may no longer be kept."""
    ends = [one.consent.retain_until for one in envelopes if one.consent.retain_until is not None]
    return min((end for end in ends if end > as_of), default=None)


def read_index(draft: Draft, settings: FeedbackSettings) -> Index | None:
    """The parent's, if it is there and its facts were made as ours are."""
    stored = draft.parent_bytes(index.CELLS)
    known = Index.model_validate_json(stored) if stored else None
    return known if known and known.key == facts_key(settings) else None
