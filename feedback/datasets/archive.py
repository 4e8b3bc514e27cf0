"""Reads back what the consumer stored, as it stood at a cut of the log, with the bodies opened."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, literal, or_, select
from sqlalchemy.orm import aliased

from feedback.cells import BUCKETS, PROMPTS, VOTES, Cell, start_of_day
from feedback.datasets.conversations import Conversations
from feedback.datasets.redaction import Redactor
from feedback.datasets.standing import TOPIC, Cut, Table, before, chunks, superseded
from feedback.intake import stale
from feedback.judgements.exchange import Answers, Exchange, Unusable, make_exchange
from feedback.judgements.turns import TURNS_MOST
from feedback.tables import InferenceRow, VoteEventRow, VoteTargetRow
from feedback.votes import SESSION, Answered, Vote
from infra.artifacts import MissingArtifact
from infra.contracts.base import SCHEMA_VERSION
from infra.contracts.events import FEEDBACK_TOPIC, INFERENCE_TOPIC, Consent, Envelope, Feedback, Inference, Source
from infra.database.engine import Database
from infra.envelopes import Sealer
from infra.eventlog.base import Position
from infra.sealing import KeyDestroyed, KeyUnknown, SealBroken

UNREADABLE = (KeyDestroyed, KeyUnknown, SealBroken, MissingArtifact)
SOURCES = {source.value: source for source in Source}
PIECE = 5000  # events that are open at one time
CONVERSATIONS = PIECE // TURNS_MOST  # of which all turns are open at one time
RECENT = 30_000  # answers that stay open: about 100 MB, and four bytes for each of their tokens
ENVELOPE = (
    "event_id", "occurred_at", "tenant", "rater", "session_id", "segment", "source", "consent_train",
    "consent_explicit", "retain_until", "key_id", "sealed", "log_partition", "log_offset", "erased_at",
)  # fmt: skip


@dataclass
class Recent:
    """Answers that were opened lately: the votes on one come within a few cells of each other."""

    known: dict[str, Exchange | Unusable] = field(default_factory=dict)

    def add(self, found: Mapping[str, Exchange | Unusable]) -> None:
        """Forgets the older half where there are too many."""
        self.known.update(found)
        if len(self.known) > RECENT:
            self.known = dict(islice(self.known.items(), len(self.known) - RECENT // 2, None))

    def of(self, response_ids: Iterable[str]) -> dict[str, Exchange | Unusable]:
        return {name: self.known[name] for name in response_ids if name in self.known}


@dataclass(frozen=True)
class Archive:
    """One tenant's events from `start` on that were on the log before `cut`."""

    database: Database
    sealer: Sealer
    tenant: str
    start: datetime
    cut: Cut
    redactor: Redactor | None = None
    recent: Recent = field(default_factory=Recent, compare=False)

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

    def votes(self, cell: Cell) -> Iterator[tuple[list[Vote], Counter[str]]]:
        """The current value of each vote key whose event is in this cell; how many can't be read any more, and why.

        In pieces in the order of their events, votes on whole conversations in smaller ones: each has many answers.
        """
        for rows in self._pieces(VoteEventRow, self._in_cell(VoteEventRow, cell), ~superseded(self.cut)):
            votes, lost = self._votes(rows)
            yield [vote for vote in votes if not vote.session_id], lost
            whole = [vote for vote in votes if vote.session_id]
            for at in range(0, len(whole), CONVERSATIONS):
                yield whole[at : at + CONVERSATIONS], Counter()

    def votes_of(self, event_ids: Iterable[str]) -> list[Vote]:
        """These events, in their order."""
        asked = (self._rows(VoteEventRow, [VoteEventRow.event_id.in_(ids)]) for ids in chunks(event_ids))
        found = [vote for rows in asked for vote in self._votes(rows)[0]]
        return sorted(found, key=lambda vote: vote.order)

    def answers(self, cell: Cell) -> Iterator[list[Exchange]]:
        """What was asked and answered in this cell, of what can be used, in pieces."""
        for rows in self._pieces(InferenceRow, self._in_cell(InferenceRow, cell), more=(InferenceRow.response_id,)):
            found = self._exchanges(rows)
            self.recent.add(found)
            yield [one for one in found.values() if isinstance(one, Exchange)]

    def answers_to(self, votes: Iterable[Vote]) -> Answers:
        """What these votes are about, as far as it has come, however old."""
        cast = list(votes)
        asked = {vote.session_id for vote in cast if vote.session_id and not vote.retracted}
        conversations = Conversations(self.database, self.tenant, self.cut).of(asked)
        targets = {target for vote in cast if not vote.session_id for target in vote.targets}
        targets |= {turn.response_id for turns in conversations.values() for turn in turns}
        return Answers(self._named(targets), conversations)

    def _named(self, targets: set[str]) -> dict[str, Exchange | Unusable]:
        known = self.recent.of(targets)
        for ids in chunks(targets - known.keys()):
            where = [InferenceRow.response_id.in_(ids)]
            found = self._exchanges(self._rows(InferenceRow, where, more=(InferenceRow.response_id,)))
            self.recent.add(found)
            known |= found
        return known

    def answers_of(self, cell: Cell, event_ids: Iterable[str]) -> dict[str, Exchange | Unusable]:
        """These events of this cell, by response id."""
        found: dict[str, Exchange | Unusable] = {}
        for ids in chunks(event_ids):
            where = [self._in_cell(InferenceRow, cell), InferenceRow.event_id.in_(ids)]
            found |= self._exchanges(self._rows(InferenceRow, where, more=(InferenceRow.response_id,)))
        return found

    def _votes(self, rows: Iterable[Any]) -> tuple[list[Vote], Counter[str]]:
        votes, lost = list[Vote](), Counter[str]()
        for row in rows:
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

    def _exchanges(self, rows: Iterable[Any]) -> dict[str, Exchange | Unusable]:
        found: dict[str, Exchange | Unusable] = {}
        for row in rows:
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
                found[row.response_id] = make_exchange(Answered(envelope, body, at, redacted)).without_body()
        return found

    def _pieces(self, table: Table, *where: ColumnElement[bool], more: Sequence[Any] = ()) -> Iterator[Sequence[Any]]:
        """As many rows at a time as may be held; no transaction stays open between them."""
        rows = self._rows(table, where, more=more, most=PIECE)
        while rows:
            yield rows
            moment, last = rows[-1].occurred_at, rows[-1].event_id
            later = and_(table.occurred_at >= moment, or_(table.occurred_at > moment, table.event_id > last))
            rows = self._rows(table, (*where, later), more=more, most=PIECE) if len(rows) == PIECE else []

    def _rows(
        self, table: Table, where: Sequence[ColumnElement[bool]], *, more: Sequence[Any] = (), most: int | None = None
    ) -> Sequence[Any]:
        columns = [table.__table__.columns[name] for name in ENVELOPE]  # as they are: nothing is mapped
        mine = (table.tenant == self.tenant, *where, before(table, TOPIC[table], self.cut))
        with self.database.reading() as session:
            query = select(*columns, *more).where(*mine).order_by(table.occurred_at, table.event_id).limit(most)
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
    stale_since: datetime

    def votes(self) -> set[Cell]:
        """Of new votes and the values they replace, of votes whose answers have come or are rated, of what has gone."""
        events = VoteEventRow
        fresh = {vote_id for (vote_id,) in self._new(events, events.vote_id)}
        fresh |= self._on_conversations_of(fresh)
        fresh |= self._pointing_at(self._new_targets())
        found = {cell for ids in chunks(fresh) for cell in self._cells(events, events.vote_id.in_(ids))}
        return found | self._stale(VOTES)

    def answers(self) -> set[Cell]:
        fresh = self._new(InferenceRow, InferenceRow.occurred_at, InferenceRow.bucket)
        return {Cell.of(occurred_at, bucket) for occurred_at, bucket in fresh} | self._stale(PROMPTS)

    def _stale(self, kind: str) -> set[Cell]:
        with self.database.reading() as session:
            return stale.since(session, self.tenant, kind, self.stale_since)

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

    def _new_targets(self) -> set[str]:
        """What votes may point at that has got more: new answers, and the conversations that they are part of."""
        targets = set[str]()
        for response_id, session_id in self._new(InferenceRow, InferenceRow.response_id, InferenceRow.session_id):
            targets |= {response_id, f"{SESSION}{session_id}"} if session_id else {response_id}
        return targets

    def _on_conversations_of(self, vote_ids: set[str]) -> set[str]:
        """Votes on whole conversations of which some turn has one of these votes."""
        mine, asked, whole = VoteTargetRow, InferenceRow, aliased(VoteTargetRow)
        answered = and_(asked.tenant == mine.tenant, asked.response_id == mine.target)
        same = and_(whole.tenant == asked.tenant, whole.target == literal(SESSION) + asked.session_id)
        query = select(whole.vote_id).select_from(mine).join(asked, answered).join(whole, same).distinct()
        found = set[str]()
        for ids in chunks(vote_ids):
            with self.database.reading() as session:
                found.update(session.scalars(query.where(mine.tenant == self.tenant, mine.vote_id.in_(ids))))
        return found

    def _pointing_at(self, targets: set[str]) -> set[str]:
        target, found = VoteTargetRow, set[str]()
        for ids in chunks(targets):
            query = select(target.vote_id).where(target.tenant == self.tenant, target.target.in_(ids))
            with self.database.reading() as session:
                found.update(session.scalars(query))
        return found

    def _cells(self, table: Table, *where: ColumnElement[bool]) -> set[Cell]:
        query = select(table.occurred_at, table.bucket).where(table.tenant == self.tenant, *where)
        with self.database.reading() as session:
            return {Cell.of(occurred_at, bucket) for occurred_at, bucket in session.execute(query)}


def _why(error: Exception) -> str:
    return "erased" if isinstance(error, KeyDestroyed) else "unreadable"


def _why_blank(row: Any) -> str:
    return "retention_ended" if row.retain_until and row.retain_until <= row.erased_at else "erased"


def envelope_of(row: Any) -> Envelope:
    """As it was; it was validated when it came in."""
    return Envelope.trusted(
        event_id=UUID(row.event_id),
        schema_version=SCHEMA_VERSION,
        occurred_at=row.occurred_at,
        tenant=row.tenant,
        rater=row.rater,
        session_id=row.session_id,
        segment=row.segment,
        source=SOURCES[row.source],
        consent=Consent.trusted(train=row.consent_train, explicit=row.consent_explicit, retain_until=row.retain_until),
        key_id=row.key_id,
        sealed=row.sealed,
    )
