"""Events into the database, one transaction per batch: answers, votes with their history, and what joined what."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from feedback import matching
from feedback.cells import bucket_of
from feedback.tables import (
    ChoiceRow,
    DeadLetterRow,
    InferenceRow,
    VoteEventRow,
    VoteRow,
    VoteStatus,
    VoteTargetRow,
)
from feedback.votes import Answered, Order, Vote
from infra.clock import now

INFERENCE_COLUMNS = (
    "response_id", "alias", "status", "stored", "rateable", "base_revision", "turn", "parent_response_id",
    "regenerated_from", "rollout_id", "started_at", "ended_at",
)  # fmt: skip
CHOICE_COLUMNS = ("index", "version", "arm", "arm_propensity", "finish_reason")


@dataclass(frozen=True, slots=True)
class Refused:
    """A payload that could not be read, as `dead_letters` lists it."""

    tenant: str
    topic: str
    partition: int
    offset: int
    key: str
    reason: str
    seen_at: datetime

    @property
    def place(self) -> tuple[str, int, int]:
        return self.topic, self.partition, self.offset


def store(session: Session, answered: Sequence[Answered], votes: Sequence[Vote]) -> int:
    """Stores what is new and joins what can be joined; returns how many events were new. Idempotent on the event id."""
    at, fresh = now(), 0
    for tenant in sorted({a.envelope.tenant for a in answered} | {v.envelope.tenant for v in votes}):
        answers = _store_answers(session, tenant, [a for a in answered if a.envelope.tenant == tenant], at)
        cast = _store_history(session, tenant, [v for v in votes if v.envelope.tenant == tenant], at)
        rows = _store_current(session, tenant, cast, at)
        matching.match(session, tenant, rows, answers)
        fresh += len(answers) + len(cast)
    return fresh


def store_refused(session: Session, refused: Iterable[Refused]) -> None:
    """Idempotent on the position."""
    for item in refused:
        session.merge(DeadLetterRow(**asdict(item)))


def known_refused(session: Session, refused: Sequence[Refused]) -> set[tuple[str, int, int]]:
    """Positions that were dead-lettered before: their bytes are on the topic already."""
    topics = {item.topic for item in refused}
    rows = session.execute(
        select(DeadLetterRow.topic, DeadLetterRow.partition, DeadLetterRow.offset).where(
            DeadLetterRow.topic.in_(topics), DeadLetterRow.offset.in_({item.offset for item in refused})
        )
    )
    return {(topic, partition, offset) for topic, partition, offset in rows}


def orphan(session: Session, older_than_s: float) -> int:
    """Calls orphaned what has waited that long for its answer; returns how many votes that were."""
    waited = (VoteRow.status == VoteStatus.PENDING, VoteRow.first_seen_at < now() - timedelta(seconds=older_than_s))
    found = session.scalars(select(VoteRow).where(*waited)).all()
    for row in found:
        matching.move(row, VoteStatus.ORPHANED)
    return len(found)


def oldest_pending_s(session: Session) -> float:
    """Age of the vote that has waited longest for its answer; 0 where none waits."""
    oldest = session.scalar(select(func.min(VoteRow.first_seen_at)).where(VoteRow.status == VoteStatus.PENDING))
    return (now() - oldest).total_seconds() if oldest else 0.0


def count_votes(session: Session) -> int:
    """Vote keys that have a value, joined or not."""
    return session.scalar(select(func.count()).select_from(VoteRow)) or 0


def pending_since(session: Session, tenant: str, since: datetime) -> int:
    """Votes that arrived after `since` and still wait: their answers may lie in a gateway's spool."""
    waiting = (VoteRow.tenant == tenant, VoteRow.status == VoteStatus.PENDING, VoteRow.first_seen_at >= since)
    return session.scalar(select(func.count()).select_from(VoteRow).where(*waiting)) or 0


def _store_answers(session: Session, tenant: str, answered: Sequence[Answered], at: datetime) -> list[str]:
    """Returns the response ids that are new. Of two events of one response the earlier one stays, in any order."""
    first: dict[str, Answered] = {}
    for event in sorted(answered, key=lambda event: event.order):
        first.setdefault(event.body.response_id, event)
    known = _known_answers(session, tenant, first)
    replaced = [r for r, event in first.items() if r in known and event.order < known[r]]
    for table in (ChoiceRow, InferenceRow) if replaced else ():
        session.execute(delete(table).where(table.tenant == tenant, table.response_id.in_(replaced)))
    fresh = [event for r, event in first.items() if r not in known or r in replaced]
    if fresh:
        session.execute(insert(InferenceRow), [_inference_row(event, at) for event in fresh])
    if choices := [row for event in fresh for row in _choice_rows(event)]:
        session.execute(insert(ChoiceRow), choices)
    return [event.body.response_id for event in fresh]


def _known_answers(session: Session, tenant: str, wanted: Iterable[str]) -> dict[str, tuple[datetime, str]]:
    query = select(InferenceRow.response_id, InferenceRow.occurred_at, InferenceRow.event_id)
    rows = session.execute(query.where(InferenceRow.tenant == tenant, InferenceRow.response_id.in_(list(wanted))))
    return {response_id: (occurred_at, event_id) for response_id, occurred_at, event_id in rows}


def _store_history(session: Session, tenant: str, votes: Sequence[Vote], at: datetime) -> list[Vote]:
    """Returns the votes whose events are new.

    A vote sent again under its Idempotency-Key is the same event at a later time: the earliest stays, in any order.
    """
    first: dict[str, Vote] = {}
    for vote in sorted(votes, key=lambda vote: vote.order):
        first.setdefault(vote.envelope.event_id.hex, vote)
    table = VoteEventRow
    query = select(table.event_id, table.occurred_at).where(table.tenant == tenant, table.event_id.in_(list(first)))
    known: dict[str, datetime] = dict(session.execute(query).all())
    replaced = [e for e, vote in first.items() if e in known and vote.envelope.occurred_at < known[e]]
    if replaced:
        session.execute(delete(table).where(table.tenant == tenant, table.event_id.in_(replaced)))
    fresh = [vote for event_id, vote in first.items() if event_id not in known or event_id in replaced]
    if fresh:
        session.execute(insert(VoteEventRow), [_history_row(vote, at) for vote in fresh])
    return fresh


def _store_current(session: Session, tenant: str, votes: Sequence[Vote], at: datetime) -> list[VoteRow]:
    """Returns the current rows that these votes made or changed."""
    by_vote = {k: list(g) for k, g in groupby(sorted(votes, key=lambda v: v.vote_id), key=lambda v: v.vote_id)}
    query = select(VoteRow).where(VoteRow.tenant == tenant, VoteRow.vote_id.in_(list(by_vote)))
    rows = {row.vote_id: row for row in session.scalars(query)}
    for vote_id, cast in by_vote.items():
        latest = max(cast, key=lambda vote: vote.order)
        if vote_id not in rows:
            rows[vote_id] = VoteRow(tenant=tenant, vote_id=vote_id, status=VoteStatus.PENDING, counted=0)
            rows[vote_id].first_seen_at = at
            session.add(rows[vote_id])
            session.add_all(VoteTargetRow(tenant=tenant, vote_id=vote_id, target=t) for t in sorted(latest.targets))
        elif latest.order < _order(rows[vote_id]) and latest.envelope.event_id.hex != rows[vote_id].event_id:
            continue
        _set_current(rows[vote_id], latest)
    session.flush()
    return list(rows.values())


def _order(row: VoteRow) -> Order:
    return row.occurred_at, row.event_id


def _set_current(row: VoteRow, vote: Vote) -> None:
    row.event_id, row.occurred_at, row.rater = vote.envelope.event_id.hex, vote.envelope.occurred_at, vote.rater
    row.consent_train, row.consent_explicit = vote.envelope.consent.train, vote.envelope.consent.explicit
    row.pairs = vote.strict_pairs


def _inference_row(event: Answered, at: datetime) -> Mapping[str, Any]:
    return {**_event_columns(event, at), **{name: getattr(event.body, name) for name in INFERENCE_COLUMNS}}


def _choice_rows(event: Answered) -> list[dict[str, Any]]:
    key = {"tenant": event.envelope.tenant, "response_id": event.body.response_id}
    return [{**key, **{name: getattr(choice, name) for name in CHOICE_COLUMNS}} for choice in event.body.choices]


def _history_row(vote: Vote, at: datetime) -> Mapping[str, Any]:
    body = vote.body
    named = {"vote_id": vote.vote_id, "kind": body.kind, "name": body.name, "retracted": vote.retracted}
    return {**_event_columns(vote, at), **named}


def _event_columns(event: Answered | Vote, at: datetime) -> dict[str, Any]:
    envelope, position = event.envelope, event.position
    return {
        "tenant": envelope.tenant,
        "event_id": envelope.event_id.hex,
        "rater": envelope.rater,
        "session_id": envelope.session_id,
        "segment": envelope.segment,
        "source": envelope.source,
        "consent_train": envelope.consent.train,
        "consent_explicit": envelope.consent.explicit,
        "retain_until": envelope.consent.retain_until,
        "occurred_at": envelope.occurred_at,
        "received_at": at,
        "log_partition": position.partition,
        "log_offset": position.offset,
        "bucket": bucket_of(event.owner),
        "key_id": envelope.key_id,
        "sealed": envelope.sealed,
    }
