"""What is stored of some units' answers in a rollout and of the votes on them, opened."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, select

from feedback.datasets.archive import ENVELOPE, UNREADABLE, envelope_of
from feedback.tables import InferenceRow, VoteEventRow, VoteRow, VoteTargetRow
from feedback.tallying.answers import Answer, answer_of
from feedback.tallying.trials import Trial
from feedback.tallying.units import KINDS, Kind, Unit
from feedback.votes import Answered, Vote
from infra.contracts.events import FEEDBACK_TOPIC, INFERENCE_TOPIC, Feedback, Inference, Source
from infra.database.engine import Database
from infra.envelopes import Sealer
from infra.eventlog.base import Position

OPEN = 1000  # sealed bodies in memory at one time
KNOWN = 50_000  # answers that need not be opened again: about 25 MB
JUDGING = ("thumbs", "rating", "comparison")
Asked, Cast = InferenceRow.__table__.c, VoteEventRow.__table__.c  # as they are: nothing is mapped


@dataclass(frozen=True)
class Reader:
    """`known` has answers by their event ids: a person who has many is not opened anew with each vote."""

    database: Database
    sealer: Sealer
    known: dict[str, Answer | None] = field(default_factory=dict)

    def answers(self, trial: Trial, units: Sequence[Unit]) -> list[Answer]:
        """All that are counted of these units; what was erased or can't be opened is not."""
        found = [
            answer for kind in KINDS for answer in self._of(trial, kind, [u.name for u in units if u.kind == kind])
        ]
        self._forget_some()
        return found

    def votes(self, trial: Trial, answers: Sequence[Answer]) -> list[Vote]:
        """The current values of what people say of these answers."""
        ids = [answer.response_id for answer in answers]
        rows = {row.event_id: row for at in range(0, len(ids), OPEN) for row in self._cast(trial, ids[at : at + OPEN])}
        return [vote for row in rows.values() if (vote := self._vote(row)) is not None]

    def _of(self, trial: Trial, kind: Kind, names: Sequence[str]) -> Iterable[Answer]:
        mine = (Asked.tenant == trial.tenant, Asked.rollout_id == trial.rollout_id, *_whose(kind, names))
        counted = (Asked.rollout_step.is_not(None), Asked.erased_at.is_(None))
        with self.database.reading() as session:
            rows = session.execute(select(Asked.event_id, Asked.response_id).where(*mine, *counted)).all()
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
        target, vote = VoteTargetRow.__table__.c, VoteRow.__table__.c
        current = (vote.tenant == target.tenant) & (vote.vote_id == target.vote_id)
        event = (Cast.tenant == vote.tenant) & (Cast.event_id == vote.event_id)
        said = (Cast.source == Source.HUMAN, Cast.kind.in_(JUDGING), ~Cast.retracted, Cast.erased_at.is_(None))
        query = select(*(Cast[name] for name in ENVELOPE)).select_from(VoteTargetRow).join(VoteRow, current)
        query = query.join(VoteEventRow, event).where(target.tenant == trial.tenant, target.target.in_(response_ids))
        with self.database.reading() as session:
            return session.execute(query.where(*said)).all()

    def _vote(self, row: Any) -> Vote | None:
        envelope = envelope_of(row)
        try:
            body = self.sealer.open(envelope, Feedback)
        except UNREADABLE:
            return None
        return Vote(envelope, body, Position(FEEDBACK_TOPIC, row.log_partition, row.log_offset))

    def _forget_some(self) -> None:
        """The older half, where there are too many."""
        if len(self.known) > KNOWN:
            for event_id in list(islice(self.known, len(self.known) - KNOWN // 2)):
                del self.known[event_id]


def _whose(kind: Kind, names: Sequence[str]) -> Iterable[ColumnElement[bool]]:
    """As `Unit.of` reads a row."""
    yield Asked[kind].in_(names)
    if kind != "rater":
        yield Asked.rater.is_(None)
    if kind == "response_id":
        yield Asked.session_id.is_(None)
