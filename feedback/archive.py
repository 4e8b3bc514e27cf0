"""Reads back what the consumer stored, as it stood at a cut of the log, with the bodies opened."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, aliased

from feedback import stale
from feedback.cells import BUCKETS, Cell, start_of_day
from feedback.exchange import Exchange, Unusable, make_exchange
from feedback.index import PROMPTS, VOTES
from feedback.redaction import Redactor
from feedback.tables import InferenceRow, VoteEventRow, VoteTargetRow
from feedback.votes import Answered, Vote
from infra.artifacts import MissingArtifact
from infra.contracts.events import FEEDBACK_TOPIC, INFERENCE_TOPIC, Consent, Envelope, Feedback, Inference, Source
from infra.database.engine import Database
from infra.envelopes import Sealer
from infra.eventlog.base import Position
from infra.sealing import KeyDestroyed, KeyUnknown, SealBroken

Cut = Mapping[tuple[str, int], int]  # (topic, partition) -> the first offset that is not part of it
Table = type[VoteEventRow] | type[InferenceRow]
TOPIC: dict[Table, str] = {VoteEventRow: FEEDBACK_TOPIC, InferenceRow: INFERENCE_TOPIC}
UNREADABLE = (KeyDestroyed, KeyUnknown, SealBroken, MissingArtifact)
LOOKUPS = 5000  # ids in one query
ENVELOPE = (
    "event_id", "occurred_at", "tenant", "rater", "session_id", "segment", "source", "consent_train",
    "consent_explicit", "retain_until", "key_id", "sealed", "log_partition", "log_offset", "erased_at",
)  # fmt: skip


@dataclass(frozen=True)
class Archive:
    """One tenant's events from `start` on that were on the log before `cut`."""

    database: Database
    sealer: Sealer
    tenant: str
    start: datetime
    cut: Cut
    redactor: Redactor | None = None

    def cells(self, table: Table) -> list[Cell]:
        """All that there may be events in, in order: of each bucket the days from its first to its last."""
        return sorted(cell for bucket in range(BUCKETS) for cell in self._span(table, bucket))

    def _span(self, table: Table, bucket: int) -> Iterator[Cell]:
        mine = (table.tenant == self.tenant, table.bucket == bucket, table.occurred_at >= self.start)
        with self.database.reading() as session:
            first, last = session.execute(
                select(func.min(table.occurred_at), func.max(table.occurred_at)).where(*mine)
            ).one()
        if first is not None:
            start = start_of_day(first)
            for after in range((last - start).days + 1):
                yield Cell((start + timedelta(days=after)).date(), bucket)

    def votes(self, cell: Cell) -> tuple[list[Vote], Counter[str]]:
        """The current value of each vote key whose event is in this cell; how many can't be read any more, and why."""
        mine, later = VoteEventRow, aliased(VoteEventRow)
        superseded = exists().where(
            later.tenant == mine.tenant,
            later.vote_id == mine.vote_id,
            or_(
                later.occurred_at > mine.occurred_at,
                and_(later.occurred_at == mine.occurred_at, later.event_id > mine.event_id),
            ),
            _before(later, FEEDBACK_TOPIC, self.cut),
        )
        return self._votes(self._in_cell(mine, cell), ~superseded)

    def votes_of(self, event_ids: Iterable[str]) -> list[Vote]:
        """These events, in their order."""
        found = [vote for ids in chunks(event_ids) for vote in self._votes(VoteEventRow.event_id.in_(ids))[0]]
        return sorted(found, key=lambda vote: vote.order)

    def answers(self, cell: Cell) -> list[Exchange]:
        """What was asked and answered in this cell, of what can be used."""
        found = self._exchanges(self._in_cell(InferenceRow, cell))
        return [one for one in found.values() if isinstance(one, Exchange)]

    def answers_to(self, votes: Iterable[Vote]) -> dict[str, Exchange | Unusable]:
        """What these votes are about, by response id, as far as it has come, however old."""
        targets = {target for vote in votes for target in vote.targets}
        return self._looked_up(InferenceRow.response_id, targets)

    def answers_of(self, event_ids: Iterable[str]) -> dict[str, Exchange | Unusable]:
        """By response id."""
        return self._looked_up(InferenceRow.event_id, event_ids)

    def _looked_up(self, column: InstrumentedAttribute[str], ids: Iterable[str]) -> dict[str, Exchange | Unusable]:
        return {name: one for some in chunks(ids) for name, one in self._exchanges(column.in_(some)).items()}

    def _votes(self, *where: ColumnElement[bool]) -> tuple[list[Vote], Counter[str]]:
        votes, lost = list[Vote](), Counter[str]()
        for row in self._rows(VoteEventRow, where):
            if row.erased_at is not None:
                lost[_why_blank(row)] += 1
                continue
            envelope = envelope_of(row)
            try:
                body = self.sealer.open(envelope, Feedback)
            except UNREADABLE as error:
                lost[_why(error)] += 1
            else:
                body, redacted = self.redactor.feedback(body) if self.redactor else (body, Counter[str]())
                at = Position(FEEDBACK_TOPIC, row.log_partition, row.log_offset)
                votes.append(Vote(envelope, body, at, redacted))
        return votes, lost

    def _exchanges(self, *where: ColumnElement[bool]) -> dict[str, Exchange | Unusable]:
        found: dict[str, Exchange | Unusable] = {}
        for row in self._rows(InferenceRow, where, InferenceRow.response_id):
            if row.erased_at is not None:
                found[row.response_id] = Unusable(_why_blank(row))
                continue
            envelope = envelope_of(row)
            try:
                body = self.sealer.open(envelope, Inference)
            except UNREADABLE as error:
                found[row.response_id] = Unusable(_why(error))
            else:
                body, redacted = self.redactor.inference(body) if self.redactor else (body, Counter[str]())
                at = Position(INFERENCE_TOPIC, row.log_partition, row.log_offset)
                found[row.response_id] = make_exchange(Answered(envelope, body, at, redacted))
        return found

    def _rows(self, table: Table, where: Sequence[ColumnElement[bool]], *more: Any) -> Sequence[Any]:
        columns = [getattr(table, name) for name in ENVELOPE]
        mine = (table.tenant == self.tenant, *where, _before(table, TOPIC[table], self.cut))
        with self.database.reading() as session:
            query = select(*columns, *more).where(*mine).order_by(table.occurred_at, table.event_id)
            return session.execute(query).all()

    def _in_cell(self, table: Table, cell: Cell) -> ColumnElement[bool]:
        return and_(
            table.bucket == cell.bucket, table.occurred_at >= max(cell.start, self.start), table.occurred_at < cell.end
        )


@dataclass(frozen=True)
class Changes:
    """Which cells hold other votes or answers at `cut` than they did at `since`."""

    database: Database
    tenant: str
    since: Cut
    cut: Cut
    blanked_since: datetime

    def votes(self) -> set[Cell]:
        """Of new votes, of the values they took the place of, of votes whose answers have come, and of blanked ones."""
        events = VoteEventRow
        fresh = {vote_id for (vote_id,) in self._new(events, events.vote_id)}
        fresh |= self._pointing_at(
            {response_id for (response_id,) in self._new(InferenceRow, InferenceRow.response_id)}
        )
        found = {cell for ids in chunks(fresh) for cell in self._cells(events, events.vote_id.in_(ids))}
        return found | self._blanked(VOTES)

    def answers(self) -> set[Cell]:
        fresh = self._new(InferenceRow, InferenceRow.occurred_at, InferenceRow.bucket)
        return {Cell.of(occurred_at, bucket) for occurred_at, bucket in fresh} | self._blanked(PROMPTS)

    def _blanked(self, kind: str) -> set[Cell]:
        with self.database.reading() as session:
            return stale.since(session, self.tenant, kind, self.blanked_since)

    def _new(self, table: Table, *columns: Any) -> Iterator[Sequence[Any]]:
        """Partition by partition, since each has an index of its own offsets."""
        topic = TOPIC[table]
        for partition in sorted(partition for name, partition in self.cut if name == topic):
            since, end = self.since.get((topic, partition), 0), self.cut[topic, partition]
            if since >= end:
                continue
            new = (table.log_partition == partition, table.log_offset >= since, table.log_offset < end)
            with self.database.reading() as session:
                yield from session.execute(select(*columns).where(*new, table.tenant == self.tenant))

    def _pointing_at(self, response_ids: set[str]) -> set[str]:
        target, found = VoteTargetRow, set[str]()
        for ids in chunks(response_ids):
            query = select(target.vote_id).where(target.tenant == self.tenant, target.target.in_(ids))
            with self.database.reading() as session:
                found.update(session.scalars(query))
        return found

    def _cells(self, table: Table, *where: ColumnElement[bool]) -> set[Cell]:
        query = select(table.occurred_at, table.bucket).where(table.tenant == self.tenant, *where)
        with self.database.reading() as session:
            return {Cell.of(occurred_at, bucket) for occurred_at, bucket in session.execute(query)}


def chunks(ids: Iterable[str]) -> Iterator[Sequence[str]]:
    """As many as one query may ask for, in a fixed order."""
    ordered = sorted(ids)
    return (ordered[at : at + LOOKUPS] for at in range(0, len(ordered), LOOKUPS))


def _why(error: Exception) -> str:
    return "erased" if isinstance(error, KeyDestroyed) else "unreadable"


def _why_blank(row: Any) -> str:
    return "retention_ended" if row.retain_until and row.retain_until <= row.erased_at else "erased"


def _before(table: Any, topic: str, cut: Cut) -> ColumnElement[bool]:
    """A partition that the cut does not know of had nothing on it."""
    parts = [
        and_(table.log_partition == partition, table.log_offset < offset)
        for (name, partition), offset in sorted(cut.items())
        if name == topic
    ]
    return or_(*parts) if parts else table.log_partition < 0


def envelope_of(row: Any) -> Envelope:
    """As it was; it was validated when it came in."""
    return Envelope.model_construct(
        event_id=UUID(row.event_id),
        occurred_at=row.occurred_at,
        tenant=row.tenant,
        rater=row.rater,
        session_id=row.session_id,
        segment=row.segment,
        source=Source(row.source),
        consent=Consent(train=row.consent_train, explicit=row.consent_explicit, retain_until=row.retain_until),
        key_id=row.key_id,
        sealed=row.sealed,
    )
