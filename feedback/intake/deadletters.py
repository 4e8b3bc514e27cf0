"""What could not be read: kept with its bytes and its reason, looked at by a person, sent again or given up.

The bytes are on the dead-letter topic, those of large payloads in the artifact store; the database has the place, the
reason and what became of it.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from feedback.errors import FeedbackError
from feedback.tables import DeadLetterRow
from infra.artifacts import ArtifactStore, MissingArtifact
from infra.clock import now
from infra.contracts.events import DEAD_LETTER_TOPIC, DeadLetter
from infra.database.engine import Database
from infra.eventlog.base import EventLog, Position, Producer, Record
from infra.registry import audit

INLINE_BYTES = 512 * 1024  # a larger payload goes to the artifact store: a record of the log has its limit
LEGIBLE_CHARS = 1_000  # of keys and reasons
ACK_TIMEOUT_S = 30


class LetterState(StrEnum):
    OPEN = "open"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


L = LetterState
TRANSITIONS: dict[LetterState, frozenset[LetterState]] = {
    L.OPEN: frozenset({L.REPLAYED, L.DISCARDED}),
    L.REPLAYED: frozenset({L.REPLAYED, L.DISCARDED}),  # what is good now is stored once, however often it is sent
    L.DISCARDED: frozenset(),
}


class LetterGone(FeedbackError):
    """The payload has left the dead-letter topic: its retention is over."""


class NoSuchLetter(FeedbackError):
    """Nothing was refused at that position."""


class LetterClosed(FeedbackError):
    """The letter was discarded."""


@dataclass(frozen=True, slots=True)
class Office:
    """Keeps dead letters and sends them again."""

    database: Database
    eventlog: EventLog
    artifacts: ArtifactStore

    def list(self, state: LetterState | None, limit: int) -> Sequence[DeadLetterRow]:
        """Newest first."""
        query = select(DeadLetterRow).order_by(DeadLetterRow.seen_at.desc()).limit(limit)
        with self.database.reading() as session:
            return session.scalars(query if state is None else query.where(DeadLetterRow.state == state)).all()

    def get(self, at: Position) -> DeadLetterRow:
        """Raises NoSuchLetter."""
        with self.database.reading() as session:
            row = session.scalar(select(DeadLetterRow).where(_at(at)))
        if row is None:
            raise NoSuchLetter(f"nothing was refused at {name(at)}")
        return row

    def payload(self, row: DeadLetterRow) -> bytes:
        """The original bytes; raises LetterGone."""
        stands = Position(DEAD_LETTER_TOPIC, row.letter_partition, row.letter_offset)
        record = self.eventlog.read(stands)
        if record is None:
            raise LetterGone(f"the payload of {name(position(row))} has left {DEAD_LETTER_TOPIC}")
        letter = DeadLetter.model_validate_json(record.value)
        if letter.artifact is None:
            return letter.payload
        try:
            return self.artifacts.read(letter.artifact)
        except MissingArtifact as error:
            raise LetterGone(str(error)) from error

    def replay(self, row: DeadLetterRow, producer: Producer, actor: str) -> None:
        """Sends the original bytes to their topic again. Raises LetterGone, LetterClosed or LogUnavailable."""
        _check(row, L.REPLAYED)
        producer.append(row.topic, row.key, self.payload(row)).result(timeout=ACK_TIMEOUT_S)
        self._close(row, L.REPLAYED, actor, "sent again")

    def discard(self, row: DeadLetterRow, actor: str, reason: str) -> None:
        """Raises LetterClosed."""
        _check(row, L.DISCARDED)
        self._close(row, L.DISCARDED, actor, reason)

    def _close(self, row: DeadLetterRow, target: LetterState, actor: str, reason: str) -> None:
        with self.database.transaction() as session:
            session.execute(update(DeadLetterRow).where(_at(position(row))).values(state=target, closed_at=now()))
            audit.record(
                session, tenant=row.tenant, actor=actor, action=f"deadletter.{target}", subject=name(position(row)),
                reason=reason, before={"state": row.state}, after={"state": target},
            )  # fmt: skip


def position(row: DeadLetterRow) -> Position:
    return Position(row.topic, row.partition, row.offset)


def name(at: Position) -> str:
    """As people write it: `thumbwheel.feedback.v1:0:17`."""
    return f"{at.topic}:{at.partition}:{at.offset}"


def parse(text: str) -> Position:
    """Raises NoSuchLetter where it is no position."""
    topic, _, rest = text.partition(":")
    partition, _, offset = rest.partition(":")
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        raise NoSuchLetter(f"{text} is no position: they look like thumbwheel.feedback.v1:0:17")
    return Position(topic, int(partition), int(offset))


def make_letter(record: Record, reason: str, artifacts: ArtifactStore) -> DeadLetter:
    """What goes on the dead-letter topic; a large payload is durable in the artifact store first."""
    at, artifact = record.position, None
    if len(record.value) > INLINE_BYTES:
        artifact = f"dead-letters/{at.topic}/{at.partition}/{at.offset}"
        artifacts.write(artifact, record.value)
    payload = b"" if artifact else record.value
    return DeadLetter(
        topic=at.topic, partition=at.partition, offset=at.offset, key=legible(record.key),
        reason=legible(reason), payload=b64encode(payload), artifact=artifact, seen_at=now(),
    )  # fmt: skip


def legible(text: str) -> str:
    """Short, and without what no column takes: anybody may have written it."""
    return text[:LEGIBLE_CHARS].replace("\0", r"\0")


def open_letters(session: Session) -> int:
    """How many wait for a person."""
    query = select(func.count()).select_from(DeadLetterRow).where(DeadLetterRow.state == L.OPEN)
    return session.scalar(query) or 0


def _check(row: DeadLetterRow, target: LetterState) -> None:
    if target not in TRANSITIONS[LetterState(row.state)]:
        raise LetterClosed(f"{name(position(row))} was {row.state}: it can't be {target} any more")


def _at(at: Position) -> ColumnElement[bool]:
    row = DeadLetterRow
    return (row.topic == at.topic) & (row.partition == at.partition) & (row.offset == at.offset)
