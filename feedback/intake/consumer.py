"""The consumer: decode → validate → handle → commit the database → commit the offset.

The next records are read while PostgreSQL is busy with the last ones.

Whatever dies in between comes again, and is recognised by its event id. What cannot be read goes to the dead letters;
what cannot be stored now is tried until it can.
"""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError

from feedback.errors import Stopping, Undecodable
from feedback.intake import erasing, repository
from feedback.intake.deadletters import make_letter
from feedback.intake.decode import TOPICS, Event, decode
from feedback.intake.repository import Refused
from feedback.metrics import Metrics
from feedback.votes import Answered, Erased, Vote
from infra.artifacts import ArtifactStore
from infra.contracts.events import DEAD_LETTER_TOPIC, DeadLetter
from infra.database.engine import Database
from infra.envelopes import Sealer
from infra.eventlog.base import Consumer, EventLog, LogUnavailable, Producer, Record
from infra.sealing import KeyDestroyed

T = TypeVar("T")
log = structlog.get_logger()
GROUP = "feedback"
TRANSIENT = (SQLAlchemyError, sqlite3.Error, OSError, LogUnavailable)
RETRY_FIRST_S, RETRY_MOST_S = 0.1, 5.0
DEAD_LETTER_TIMEOUT_S = 30


@dataclass(slots=True)
class Batch:
    """What one poll brought, sorted by what is to be done with it."""

    answered: list[Answered] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    erasures: list[Erased] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    erased: int = 0

    def add(self, event: Event) -> None:
        if isinstance(event, Answered):
            self.answered.append(event)
        elif isinstance(event, Erased):
            self.erasures.append(event)
        else:
            self.votes.append(event)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Records whose batch is being stored; `stored` raises what stood in the way."""

    records: Sequence[Record]
    batch: Batch
    stored: Future[None]


@dataclass(frozen=True)
class Intake:
    """What is done with one batch of records, step by step. Safe to give the same record twice.

    `refuse` and `store` raise one of TRANSIENT, with nothing stored, when it cannot be done now.
    """

    database: Database
    sealer: Sealer
    dead_letters: Producer
    artifacts: ArtifactStore
    metrics: Metrics

    def sort(self, records: Sequence[Record]) -> Batch:
        """Decodes each record; a person who has been erased leaves nothing to store."""
        batch = Batch()
        for record in records:
            try:
                event = decode(record, self.sealer)
            except Undecodable as error:
                batch.refused.append(Refused(record, error.tenant, str(error)))
            except KeyDestroyed:
                batch.erased += 1
            else:
                batch.add(event)
        return batch

    def refuse(self, batch: Batch) -> None:
        """Dead letters are durable before the offset is committed. What was refused and stored is not repeated; after a
        kill between both a letter comes twice, with the same position."""
        if not batch.refused:
            return
        with self.database.reading() as session:
            known = repository.known_refused(session, [refused.record.position for refused in batch.refused])
        batch.refused = [refused for refused in batch.refused if refused.record.position not in known]
        unsent = [refused for refused in batch.refused if refused.letter is None]
        letters = [make_letter(one.record, one.reason, self.artifacts) for one in unsent]
        waiting = [self.dead_letters.append(DEAD_LETTER_TOPIC, letter.key, _encode(letter)) for letter in letters]
        for refused, done in zip(unsent, waiting, strict=True):
            at, refused.letter = refused.record.position, done.result(timeout=DEAD_LETTER_TIMEOUT_S)
            log.warning("event_refused", topic=at.topic, partition=at.partition, offset=at.offset)
            self.metrics.dead_letters.labels(at.topic).inc()

    def store(self, batch: Batch) -> int:
        """One transaction; returns how many events were new."""
        with self.database.concurrent() as session:
            repository.store_refused(session, batch.refused)
            tombstones = [erasing.accept(session, event) for event in batch.erasures]
            fresh, dropped = repository.store(session, batch.answered, batch.votes)
            for tombstone in tombstones:
                erasing.blank(session, self.artifacts, tombstone)
            self.artifacts.delete(dropped.bodies)
        for event in batch.erasures:
            self.sealer.forget(event.envelope.tenant, event.body.rater, event.body.up_to)
        self.metrics.events.labels("stored").inc(fresh)
        self.metrics.events.labels("repeated").inc(len(batch.answered) + len(batch.votes) - dropped.events - fresh)
        self.metrics.events.labels("erased").inc(batch.erased + dropped.events)
        return fresh


@dataclass
class Loop:
    """Polls and decodes a batch while the one before is being stored; commits the offsets of what is stored.

    Batches are stored one after the other, in the order in which they came.
    """

    intake: Intake
    consumer: Consumer
    stop: threading.Event
    batch_size: int
    poll_s: float
    _storer: ThreadPoolExecutor = field(init=False)
    _under_way: "UnderWay | None" = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._storer = ThreadPoolExecutor(1, thread_name_prefix="storer")

    def turn(self) -> int:
        """One poll; returns how many records it brought, which are stored by the end of the next turn.

        Whatever is raised, what was not committed comes again.
        """
        records: Sequence[Record] = ()
        try:
            records = self.insist(lambda: self.consumer.poll(self.batch_size, self.poll_s))
            batch = self.insist(lambda: self.intake.sort(records))
            self.settle()
        except BaseException:
            before = self._under_way.records if self._under_way else ()
            self._under_way = None
            self.consumer.seek(preceding([*before, *records]))
            raise
        if records:
            self._under_way = UnderWay(records, batch, self._storer.submit(self._store, batch))
        return len(records)

    def settle(self) -> None:
        """Waits until the batch under way is stored, tries again where it could not be, and commits its offsets."""
        if (work := self._under_way) is None:
            return
        tries = chain([work.stored.result], repeat(lambda: self._store(work.batch)))
        self.insist(lambda: next(tries)())
        self.insist(lambda: self.consumer.commit(following(work.records)))
        self.intake.metrics.throughput.add(len(work.records))
        self._under_way = None

    def close(self) -> None:
        """Commits what could be stored; the rest is left to whoever has the partitions next."""
        with suppress(Stopping):
            self.settle()
        self._storer.shutdown()

    def _store(self, batch: Batch) -> None:
        with self.intake.metrics.batch_seconds.time():
            self.intake.refuse(batch)
            self.intake.store(batch)

    def insist(self, step: Callable[[], T]) -> T:
        """Tries until it works. Raises Stopping, so that nothing uncommitted is left behind as if it were done."""
        pause = RETRY_FIRST_S
        while True:
            try:
                return step()
            except TRANSIENT as error:
                log.warning("batch_postponed", error=type(error).__name__, pause_s=pause)
            if self.stop.wait(pause):
                raise Stopping("asked to end while the database or the log could not be reached")
            pause = min(2 * pause, RETRY_MOST_S)
            self._stay()

    def _stay(self) -> None:
        """While the database is away the partitions stay with this process: another one could do no more with them."""
        with suppress(LogUnavailable):  # said by the step that is tried again
            self.consumer.stay()


def following(records: Sequence[Record]) -> dict[tuple[str, int], int]:
    """The next offset to read of each partition, once all of these are handled."""
    offsets: dict[tuple[str, int], int] = {}
    for record in records:
        at = record.position
        offsets[at.topic, at.partition] = max(at.offset + 1, offsets.get((at.topic, at.partition), 0))
    return offsets


def preceding(records: Sequence[Record]) -> dict[tuple[str, int], int]:
    """Where to go on reading when none of these is handled."""
    offsets: dict[tuple[str, int], int] = {}
    for record in records:
        at = record.position
        offsets[at.topic, at.partition] = min(at.offset, offsets.get((at.topic, at.partition), at.offset))
    return offsets


def lag(eventlog: EventLog) -> int:
    """Events on the log that the group has not committed yet."""
    committed = eventlog.committed(GROUP, TOPICS)
    return sum(max(0, end - committed[place]) for place, end in eventlog.end_offsets(TOPICS).items())


def _encode(letter: DeadLetter) -> bytes:
    return letter.model_dump_json().encode()
