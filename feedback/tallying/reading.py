"""What is stored of some units' answers in a rollout and of the votes on them, opened."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import func, select

from feedback.datasets.archive import ENVELOPE, UNREADABLE, envelope_of
from feedback.tables import InferenceRow, ShadowVerdictRow, VoteEventRow, VoteRow, VoteTargetRow
from feedback.tallying.answers import Answer, answer_of
from feedback.tallying.trials import Trial
from feedback.tallying.units import KINDS, Kind, Unit
from feedback.votes import Answered, Vote
from infra.contracts.events import FEEDBACK_TOPIC, INFERENCE_TOPIC, Feedback, Inference, Source
from infra.database.engine import Database
from infra.envelopes import Sealer
from infra.eventlog.base import Position

OPEN = 1000  # sealed bodies in memory at one time
KNOWN = 50_000  # answers, and as many votes, that need not be opened again: about 100 MB
JUDGING = ("thumbs", "rating", "comparison")
Asked, Cast = InferenceRow.__table__.c, VoteEventRow.__table__.c  # as they are: nothing is mapped


@dataclass(frozen=True)
class Reader:
    """`known` and `cast` have answers and votes by their event ids: a person who has many is not opened anew with each
    vote."""

    database: Database
    sealer: Sealer
    known: dict[str, Answer | None] = field(default_factory=dict)
    cast: dict[str, Vote] = field(default_factory=dict)

    def answers(self, trial: Trial, units: Sequence[Unit]) -> list[Answer]:
        """All that are counted of these units; what was erased or can't be opened is not."""
        found = [
            answer for kind in KINDS for answer in self._of(trial, kind, [u.name for u in units if u.kind == kind])
        ]
        _forget_some(self.known)
        return found

    def votes(self, trial: Trial, answers: Sequence[Answer]) -> list[Vote]:
        """The current values of what people say of these answers."""
        ids = [answer.response_id for answer in answers]
        rows = {row.event_id: row for at in range(0, len(ids), OPEN) for row in self._cast(trial, ids[at : at + OPEN])}
        votes = [vote for row in rows.values() if (vote := self._vote(row)) is not None]
        _forget_some(self.cast)
        return votes

    def wins(self, trial: Trial, answers: Sequence[Answer]) -> dict[str, float | None]:
        """What the judge said of those that were mirrored, as far as it was asked."""
        ids, verdict = [answer.response_id for answer in answers if answer.judgeable], ShadowVerdictRow
        found = dict[str, float | None]()
        for at in range(0, len(ids), OPEN):
            these = (verdict.tenant == trial.tenant, verdict.response_id.in_(ids[at : at + OPEN]))
            with self.database.reading() as session:
                found |= {row.response_id: row.win for row in session.scalars(select(verdict).where(*these))}
        return found

    def forget(self) -> None:
        """Nobody counts here any more."""
        self.known.clear()
        self.cast.clear()

    def _of(self, trial: Trial, kind: Kind, names: Sequence[str]) -> Iterable[Answer]:
        """By the index of raters or sessions: an expression has none, or SQLite would read the whole rollout."""
        in_it = func.coalesce(Asked.rollout_id, "") == trial.rollout_id
        mine = (Asked.tenant == trial.tenant, in_it, Asked[kind].in_(names))
        counted = (Asked.rollout_step.is_not(None), Asked.erased_at.is_(None))
        query = select(Asked.rater, Asked.session_id, Asked.response_id, Asked.event_id).where(*mine, *counted)
        with self.database.reading() as session:
            rows = [row for row in session.execute(query) if Unit.of(*row[:3]).kind == kind]
        new = [row.response_id for row in rows if row.event_id not in self.known]
        for at in range(0, len(new), OPEN):
            self._open(trial, new[at : at + OPEN])
        return [answer for row in rows if (answer := self.known.get(row.event_id)) is not None]

    def _open(self, trial: Trial, response_ids: Sequence[str]) -> None:
        columns = [Asked[name] for name in ENVELOPE]
        these = (Asked.tenant == trial.tenant, Asked.response_id.in_(response_ids), Asked.erased_at.is_(None))
        with self.database.reading() as session:
            rows = session.execute(select(*columns).where(*these)).all()
        for row in rows:
            envelope, at = envelope_of(row), Position(INFERENCE_TOPIC, row.log_partition, row.log_offset)
            with suppress(*UNREADABLE):
                self.known[row.event_id] = answer_of(Answered(envelope, self.sealer.open(envelope, Inference), at))

    def _cast(self, trial: Trial, response_ids: Sequence[str]) -> Sequence[Any]:
        vote, vote_ids = VoteRow.__table__.c, self._pointing_at(trial, response_ids)
        event = (Cast.tenant == vote.tenant) & (Cast.event_id == vote.event_id)
        said = (Cast.source == Source.HUMAN, Cast.kind.in_(JUDGING), ~Cast.retracted, Cast.erased_at.is_(None))
        query = select(*(Cast[name] for name in ENVELOPE)).select_from(VoteRow).join(VoteEventRow, event)
        with self.database.reading() as session:
            return session.execute(query.where(vote.tenant == trial.tenant, vote.vote_id.in_(vote_ids), *said)).all()

    def _pointing_at(self, trial: Trial, response_ids: Sequence[str]) -> Sequence[str]:
        with self.database.reading() as session:
            these = (VoteTargetRow.tenant == trial.tenant, VoteTargetRow.target.in_(response_ids))
            return session.scalars(select(VoteTargetRow.vote_id).where(*these)).all()

    def _vote(self, row: Any) -> Vote | None:
        if row.event_id in self.cast:
            return self.cast[row.event_id]
        envelope = envelope_of(row)
        try:
            body = self.sealer.open(envelope, Feedback)
        except UNREADABLE:
            return None
        vote = Vote(envelope, body, Position(FEEDBACK_TOPIC, row.log_partition, row.log_offset))
        self.cast[row.event_id] = vote
        return vote


def _forget_some(known: dict[str, Any]) -> None:
    """The older half, where there are too many."""
    if len(known) > KNOWN:
        for event_id in list(islice(known, len(known) - KNOWN // 2)):
            del known[event_id]
