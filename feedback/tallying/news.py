"""Who has anything new in a rollout: an answer, or a vote on one, since the last look.

Answers are found by the time at which they were stored (or blanking touched them), looking back a little each time:
another process' clock may be behind, and its transaction may have been open for long. Votes are found by where they
stood on the log, of which each partition is stored in its order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from feedback.tables import InferenceRow, VoteEventRow, VoteTargetRow
from feedback.tallying.trials import Trial
from feedback.tallying.units import Unit
from infra.clock import now

OVERLAP = timedelta(seconds=60)
WHOSE = (InferenceRow.rater, InferenceRow.session_id, InferenceRow.response_id)


@dataclass
class News:
    """Remembers what it has told; one that has just begun tells of everybody."""

    trial: Trial
    _since: datetime | None = None
    _told: set[tuple[str, datetime]] = field(default_factory=set)
    _offsets: dict[int, int] = field(default_factory=dict)  # partition -> the last vote that was told

    def look(self, session: Session) -> set[Unit]:
        began = now()
        ends = dict(_ends(session))
        if self._since is None:
            found = self._everybody(session)
        else:
            found = self._answered(session, self._since) | self._voted(session, ends)
        self._since, self._offsets = began - OVERLAP, ends
        return found

    def _everybody(self, session: Session) -> set[Unit]:
        return {Unit.of(*row) for row in session.execute(select(*WHOSE).where(*self._mine)).yield_per(1000)}

    def _answered(self, session: Session, since: datetime) -> set[Unit]:
        fresh = (*self._mine, InferenceRow.received_at > since)
        rows = session.execute(select(*WHOSE, InferenceRow.received_at).where(*fresh)).all()
        told, self._told = self._told, {(row.response_id, row.received_at) for row in rows}
        return {Unit.of(*row[:3]) for row in rows if (row.response_id, row.received_at) not in told}

    def _voted(self, session: Session, ends: dict[int, int]) -> set[Unit]:
        """Whose answers were voted on; of a vote that is here before its answer the answer will tell."""
        return {unit for partition in ends for unit in self._voted_on(session, partition, ends[partition])}

    def _voted_on(self, session: Session, partition: int, end: int) -> Iterator[Unit]:
        start = self._offsets.get(partition, -1)
        if start >= end:
            return
        cast, target, asked = VoteEventRow, VoteTargetRow, InferenceRow
        pointing = (target.tenant == cast.tenant) & (target.vote_id == cast.vote_id)
        answered = (asked.tenant == target.tenant) & (asked.response_id == target.target)
        fresh = (cast.log_partition == partition, cast.log_offset > start, cast.log_offset <= end)
        query = select(*WHOSE).select_from(cast).join(target, pointing).join(asked, answered).where(*fresh)
        for row in session.execute(query.where(*self._mine)):
            yield Unit.of(*row)

    @property
    def _mine(self) -> tuple[ColumnElement[bool], ...]:
        """The answers of the rollout's tenant in it."""
        return InferenceRow.tenant == self.trial.tenant, InferenceRow.rollout_id == self.trial.rollout_id


def _ends(session: Session) -> Iterator[tuple[int, int]]:
    """(partition, offset) of the last vote of each partition, by one step in the index for each."""
    partition, offset = VoteEventRow.log_partition, VoteEventRow.log_offset
    at = session.scalar(select(func.min(partition)))
    while at is not None:
        yield at, session.scalar(select(func.max(offset)).where(partition == at)) or 0
        at = session.scalar(select(func.min(partition)).where(partition > at))
