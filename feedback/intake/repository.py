"""Events into the database, one transaction per batch: answers, votes with their history, and what joined what."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from feedback.cells import bucket_of
from feedback.intake import matching
from feedback.intake.deadletters import LetterState, legible
from feedback.intake.merging import Dropped, drop_erased, merge
from feedback.intake.staging import COLUMNS, stage
from feedback.judgements.judgement import lone_thumbs
from feedback.tables import DeadLetterRow, VoteRow, VoteStatus
from feedback.votes import Answered, Vote
from infra.clock import now
from infra.eventlog.base import Position, Record

Event = TypeVar("Event", Answered, Vote)
INFERENCE_COLUMNS = (
    "response_id", "alias", "status", "stored", "rateable", "base_revision", "turn", "parent_response_id",
    "regenerated_from", "rollout_id", "rollout_step", "started_at", "ended_at",
)  # fmt: skip
CHOICE_COLUMNS = ("index", "version", "arm", "arm_propensity", "finish_reason")


@dataclass(slots=True)
class Refused:
    """A payload that could not be read, why, and where the letter with its bytes stands."""

    record: Record
    tenant: str
    reason: str
    letter: Position | None = None


def store(session: Session, answered: Sequence[Answered], votes: Sequence[Vote]) -> tuple[int, Dropped]:
    """Stores what is new and joins what can be joined; returns how many events were new, and which may not be stored.

    Idempotent on the event id.
    """
    at = now()
    answers = _earliest(answered, lambda event: (event.envelope.tenant, event.body.response_id))
    cast = _earliest(votes, lambda event: (event.envelope.tenant, event.envelope.event_id.hex))
    stage(
        session,
        {
            "inferences": [_inference_row(event, at) for event in answers],
            "choices": [row for event in answers for row in _choice_rows(event)],
            "vote_events": [_history_row(vote, at) for vote in cast],
            "vote_targets": sorted({row for vote in cast for row in _target_rows(vote)}),
        },
    )
    dropped = drop_erased(session)
    fresh = merge(session, at)
    matching.match_batch(session)
    return fresh, dropped


def store_refused(session: Session, refused: Iterable[Refused]) -> None:
    """Idempotent on the position."""
    for item in refused:
        at, letter = item.record.position, item.letter
        assert letter is not None, "a letter is on its topic before its row is stored"
        session.merge(
            DeadLetterRow(
                tenant=item.tenant, topic=at.topic, partition=at.partition, offset=at.offset,
                key=legible(item.record.key), reason=legible(item.reason),
                seen_at=now(), state=LetterState.OPEN, closed_at=None,
                letter_partition=letter.partition, letter_offset=letter.offset,
            )
        )  # fmt: skip


def known_refused(session: Session, positions: Sequence[Position]) -> set[Position]:
    """Those that were dead-lettered before: their bytes are on the topic already."""
    row = DeadLetterRow
    rows = session.execute(
        select(row.topic, row.partition, row.offset).where(
            row.topic.in_({at.topic for at in positions}), row.offset.in_({at.offset for at in positions})
        )
    )
    return {Position(topic, partition, offset) for topic, partition, offset in rows}


def orphan(session: Session, older_than_s: float) -> int:
    """Calls orphaned what has waited that long for its answer; returns how many votes that were."""
    waited = (VoteRow.status == VoteStatus.PENDING, VoteRow.first_seen_at < now() - timedelta(seconds=older_than_s))
    statement = update(VoteRow).where(*waited).values(status=VoteStatus.ORPHANED).returning(VoteRow.vote_id)
    return len(session.execute(statement, execution_options={"synchronize_session": False}).all())


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


def _earliest(events: Sequence[Event], key: Callable[[Event], Hashable]) -> list[Event]:
    """One statement can't change a row twice: of events with one key only the earliest goes in."""
    first: dict[Hashable, Event] = {}
    for event in sorted(events, key=lambda event: event.order):
        first.setdefault(key(event), event)
    return list(first.values())


def _inference_row(event: Answered, at: datetime) -> tuple[Any, ...]:
    return _in_order(
        "inferences", {**_event_columns(event, at), **{n: getattr(event.body, n) for n in INFERENCE_COLUMNS}}
    )


def _choice_rows(event: Answered) -> list[tuple[Any, ...]]:
    key = {"tenant": event.envelope.tenant, "response_id": event.body.response_id}
    choices = event.body.choices
    return [_in_order("choices", {**key, **{n: getattr(choice, n) for n in CHOICE_COLUMNS}}) for choice in choices]


def _history_row(vote: Vote, at: datetime) -> tuple[Any, ...]:
    body = vote.body
    named = {"vote_id": vote.vote_id, "kind": body.kind, "name": body.name, "retracted": vote.retracted}
    stated = {"pairs": vote.strict_pairs, "thumbs": lone_thumbs(vote)}
    return _in_order("vote_events", {**_event_columns(vote, at), **named, **stated})


def _target_rows(vote: Vote) -> list[tuple[str, ...]]:
    return [(vote.envelope.tenant, vote.vote_id, target) for target in vote.targets]


def _in_order(table: str, values: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(values[name] for name in COLUMNS[table])


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
        "erased_at": None,
        "erasure_id": None,
    }
