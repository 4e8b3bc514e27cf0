"""Apache Kafka as the event log, through kafka-python."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetSpec, TopicPartition
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    TopicAlreadyExistsError,
    UnknownMemberIdError,
)
from kafka.structs import MemberState, OffsetAndMetadata
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from infra.eventlog.base import LogUnavailable, Offsets, Position, Record
from infra.eventlog.sharing import EvenAssignor

T = TypeVar("T")
log = structlog.get_logger()

CONNECT_TIMEOUT_MS = 2_000  # kafka-python's own default is 30 s
REOPEN_S = 0.5  # between two tries to reach a broker that was away
REQUEST_TIMEOUT_MS = 5_000
DELIVERY_TIMEOUT_MS = 8_000  # before that an append has been acknowledged or refused; kafka-python's default is 120 s
STUCK_S = DELIVERY_TIMEOUT_MS / 1000 + 2  # a client that has not settled a record by then never will
LOOK_S = 1.0
NOT_HANDED = float("inf")
STAY_MS = 500
JOIN_MS = 5_000  # longest wait in one poll for a hand-over that is under way
LINGER_MS = 5
BUFFER_BYTES = 64 << 20  # appends that wait for the broker; more are refused at once
MAX_RECORD_BYTES = 4 << 20  # a dead letter holds a whole record, and a third more as base64
READING = {"group_id": None, "enable_auto_commit": False, "metrics_enabled": False}
HANDED_OVER = (
    CommitFailedError, FencedInstanceIdError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Connection:
    """How brokers are reached, and the prefix of our topics and groups there, for a cluster that others use too.

    `security` has kafka-python's own names: security_protocol, sasl_…, ssl_…
    """

    bootstrap_servers: Sequence[str]
    prefix: str = ""
    security: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        return {
            "bootstrap_servers": list(self.bootstrap_servers),
            "bootstrap_timeout_ms": CONNECT_TIMEOUT_MS,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "reconnect_backoff_max_ms": 1_000,
            **self.security,
        }

    def named(self, topics: Sequence[str]) -> list[str]:
        """As Kafka knows them."""
        return [self.prefix + topic for topic in topics]

    def place(self, at: TopicPartition) -> tuple[str, int]:
        """As we know it."""
        return at.topic.removeprefix(self.prefix), at.partition

    def partition(self, place: tuple[str, int]) -> TopicPartition:
        topic, partition = place
        return TopicPartition(self.prefix + topic, partition)


class KafkaEventLog:
    """Topics are made by `prepare` with `partitions`; more may be added later by Kafka's own tools.

    A member that does not poll for `idle_s` loses its partitions to the others, one that is gone after `session_s`.
    """

    def __init__(self, connection: Connection, partitions: int, *, idle_s: float = 300, session_s: float = 10) -> None:
        self._connection, self._partitions = connection, partitions
        self._idle_s, self._session_s = idle_s, session_s
        self._admin: KafkaAdminClient | None = None
        self._lock = threading.Lock()

    def producer(self) -> "KafkaLogProducer":
        return KafkaLogProducer(self._connection)

    def consumer(self, group: str, topics: Sequence[str]) -> "KafkaLogConsumer":
        options = {
            "group_id": self._connection.prefix + group,
            "enable_auto_commit": False,
            "metrics_enabled": False,
            "auto_offset_reset": "earliest",
            "max_poll_interval_ms": int(self._idle_s * 1000),
            "session_timeout_ms": int(self._session_s * 1000),
            "heartbeat_interval_ms": int(self._session_s * 1000 / 4),
        }
        return KafkaLogConsumer(self._connection, options, topics)

    def prepare(self, retention_days: Mapping[str, float]) -> None:
        wanted = {self._connection.prefix + name: self._topic(days) for name, days in retention_days.items()}
        self._ask(lambda admin: _create(admin, wanted))

    def end_offsets(self, topics: Sequence[str]) -> dict[tuple[str, int], int]:
        names = self._connection.named(topics)
        ends = self._ask(lambda admin: _offsets(admin, _partitions(admin, names), OffsetSpec.LATEST))
        return {self._connection.place(at): offset for at, offset in ends.items()}

    def committed(self, group: str, topics: Sequence[str]) -> dict[tuple[str, int], int]:
        names, group = self._connection.named(topics), self._connection.prefix + group
        found = self._ask(lambda admin: _committed(admin, group, _partitions(admin, names)))
        return {self._connection.place(at): offset for at, offset in found.items()}

    def read(self, at: Position) -> Record | None:
        place = self._connection.partition((at.topic, at.partition))
        with _translated(), closing(KafkaConsumer(**self._connection.options, **READING)) as client:
            client.assign([place])
            first, end = (found[place] for found in (client.beginning_offsets([place]), client.end_offsets([place])))
            if not first <= at.offset < end:
                return None
            client.seek(place, at.offset)
            found = client.poll(timeout_ms=REQUEST_TIMEOUT_MS, max_records=1).get(place, [])
        return _record(at, found[0]) if found and found[0].offset == at.offset else None

    def missing(self, topics: Sequence[str]) -> list[str]:
        """Which of these are not there yet; raises LogUnavailable."""
        known = self._ask(lambda admin: set(admin.list_topics()))
        return [topic for topic in topics if self._connection.prefix + topic not in known]

    def describe(self) -> str:
        """The brokers and what the first of them speaks; raises LogUnavailable."""
        found = self._ask(lambda admin: admin.describe_cluster())
        return f"Kafka, {len(found['brokers'])} broker(s) of cluster {found['cluster_id']}"

    def trim(self, before: datetime) -> int:
        """Topics drop what is old by themselves; this is for who wants it gone now."""
        prefix = self._connection.prefix or "thumbwheel."
        return self._ask(lambda admin: _trim(admin, prefix, int(before.timestamp() * 1000)))

    def close(self) -> None:
        with self._lock:
            if self._admin is not None:
                self._admin.close()
            self._admin = None

    def _topic(self, days: float) -> dict[str, Any]:
        """Replicated as the cluster does by default."""
        configs = {"retention.ms": str(int(days * 86_400_000)), "max.message.bytes": str(MAX_RECORD_BYTES)}
        return {"num_partitions": self._partitions, "configs": configs}

    def _ask(self, question: Callable[[KafkaAdminClient], T]) -> T:
        """The one admin client, one caller at a time; what Kafka calls retriable is asked again for a while."""
        patience = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, KafkaError) and error.retriable),
            stop=stop_after_delay(REQUEST_TIMEOUT_MS / 1000),
            wait=wait_fixed(0.1),
            reraise=True,
        )
        with self._lock, _translated():
            answer: T = patience(self._try, question)
        return answer

    def _try(self, question: Callable[[KafkaAdminClient], T]) -> T:
        """A client that failed is not used again."""
        self._admin = self._admin or KafkaAdminClient(**self._connection.options)
        try:
            return question(self._admin)
        except KafkaError:
            self._admin.close()
            self._admin = None
            raise


@dataclass(frozen=True, slots=True)
class _Append:
    topic: str
    key: bytes
    value: bytes
    done: "Future[Position]"


class KafkaLogProducer:
    """Appends go to one thread, which opens the client and hands records to it: both may block, callers must not.

    A client that gave a record up is not used again. After a broker's absence kafka-python 3.0.12 may keep records for
    ever, neither sent nor failed: what was handed over too long ago is given up here, and its client with it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue: queue.SimpleQueue[_Append | None] = queue.SimpleQueue()
        self._room, self._lock = BUFFER_BYTES, threading.Lock()
        self._unsettled: dict[int, tuple[float, _Append]] = {}  # with when it was handed to the client; oldest first
        self._client: KafkaProducer | None = None
        self._spoilt: KafkaProducer | None = None  # a client that gave a record up
        self._not_before = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="eventlog-writer", daemon=True)
        self._thread.start()

    def append(self, topic: str, key: str, value: bytes) -> "Future[Position]":
        item = _Append(topic, key.encode(), value, Future())
        if self._closed:
            item.done.set_exception(LogUnavailable("this producer was closed"))
        elif not self._reserve(item):
            item.done.set_exception(LogUnavailable("too many records wait for Kafka already"))
        else:
            self._queue.put(item)
        return item.done

    def close(self) -> None:
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            self._send(item)
        self._drop(DELIVERY_TIMEOUT_MS / 1000)  # what cannot be delivered by then has failed

    def _next(self) -> _Append | None:
        """Looks after the client while nothing comes."""
        while True:
            try:
                return self._queue.get(timeout=LOOK_S)
            except queue.Empty:
                self._replace_if_broken()

    def _replace_if_broken(self) -> None:
        if self._client is not None and (self._client is self._spoilt or self._is_stuck()):
            log.warning("eventlog_client_replaced")
            self._drop(0)

    def _send(self, item: _Append) -> None:
        try:
            client = self._open()
            with self._lock:
                self._unsettled[id(item)] = (time.monotonic(), item)
            sent = client.send(self._connection.prefix + item.topic, key=item.key, value=item.value)
        except KafkaError as error:
            self._settle(item, LogUnavailable(f"Kafka did not take the record: {_why(error)}"))
            return
        sent.add_callback(lambda at: self._settle(item, Position(item.topic, at.partition, at.offset)))
        sent.add_errback(lambda error: self._give_up(client, item, error))

    def _give_up(self, client: KafkaProducer, item: _Append, error: Exception) -> None:
        if client is self._client:
            self._spoilt = client
        self._settle(item, LogUnavailable(f"Kafka did not take the record: {error}"))

    def _is_stuck(self) -> bool:
        with self._lock:
            handed_at, _ = next(iter(self._unsettled.values()), (NOT_HANDED, None))
        return time.monotonic() - handed_at > STUCK_S

    def _drop(self, timeout_s: float) -> None:
        """Lets go of the client, and of what it has not delivered within the time."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            client.close(timeout=timeout_s)
        except KafkaError:  # 3.0.12 raises where records are left, before it tells its thread to end; only this does
            client._sender.force_close()
        with self._lock:
            left = [item for handed_at, item in self._unsettled.values() if handed_at < NOT_HANDED]
        for item in left:
            self._settle(item, LogUnavailable("Kafka did not take the record in time"))

    def _open(self) -> KafkaProducer:
        """Raises KafkaError; within REOPEN_S of a failure at once, so that those who wait hear of it together."""
        self._replace_if_broken()
        if self._client is None:
            if time.monotonic() < self._not_before:
                raise KafkaError("no broker can be reached")
            try:
                self._client = KafkaProducer(
                    **self._connection.options,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=LINGER_MS,
                    delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
                    max_block_ms=CONNECT_TIMEOUT_MS,
                    max_request_size=MAX_RECORD_BYTES,
                    allow_auto_create_topics=False,
                    metrics_enabled=False,
                )
            except KafkaError:
                self._not_before = time.monotonic() + REOPEN_S
                raise
        return self._client

    def _reserve(self, item: _Append) -> bool:
        with self._lock:
            if self._room < len(item.value):
                return False
            self._room -= len(item.value)
            self._unsettled[id(item)] = (NOT_HANDED, item)
            return True

    def _settle(self, item: _Append, outcome: Position | LogUnavailable) -> None:
        """A caller that stopped waiting has cancelled its future; the record may be stored all the same."""
        with self._lock:
            if self._unsettled.pop(id(item), None) is None:
                return  # given up before
            self._room += len(item.value)
        if not item.done.set_running_or_notify_cancel():
            return
        if isinstance(outcome, LogUnavailable):
            item.done.set_exception(outcome)
        else:
            item.done.set_result(outcome)


class KafkaLogConsumer(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python ships no types
    """Partitions move cooperatively: a member gives up only those that another one is to have."""

    def __init__(self, connection: Connection, options: Mapping[str, Any], topics: Sequence[str]) -> None:
        self._connection, self._options, self._topics = connection, options, topics
        self._assignor = EvenAssignor()
        self._client: KafkaConsumer | None = None
        self._done: dict[TopicPartition, int] = {}  # what is to be committed
        self._wanted: dict[TopicPartition, int] = {}  # where to read on in partitions that are not ours yet

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Raises LogUnavailable where no broker was ever reached; one that is away later brings nothing."""
        self._commit_done()  # again, where a hand-over refused it; before records are taken, which a failure would drop
        found = self._poll(self._open(), int(timeout_s * 1000), max_records)
        return [
            _record(Position(*self._connection.place(at), record.offset), record)
            for at, records in found.items()
            for record in records
        ]

    def commit(self, offsets: Offsets) -> None:
        """Of partitions that went to another member meanwhile nothing is committed: it reads those records again."""
        self._done |= {self._connection.partition(place): offset for place, offset in offsets.items()}
        self._commit_done()

    def seek(self, offsets: Offsets) -> None:
        client = self._open()
        for place, offset in offsets.items():
            at = self._connection.partition(place)
            if at in client.assignment():
                client.seek(at, offset)
            else:
                self._wanted[at] = offset

    def stay(self) -> None:
        """Keeps the partitions while the caller can take no more records.

        A partition that is handed over meanwhile may bring some at once: they are read again.
        """
        client = self._open()
        held = client.assignment()
        client.pause(*held)
        try:
            for at, records in self._poll(client, STAY_MS).items():
                client.seek(at, records[0].offset)
        finally:
            client.resume(*(held & client.assignment()))

    def _poll(self, client: KafkaConsumer, timeout_ms: int, most: int | None = None) -> dict[TopicPartition, Any]:
        """Longer where a join is under way, and never out of one that is not complete.

        kafka-python 3.0.12 begins another join where one ended between two polls. Where new metadata was what began it,
        it forgets the join altogether: such a member sends no heartbeats, and each of its commits is refused.
        """
        with _translated():
            found = client.poll(timeout_ms=timeout_ms, max_records=most)
            if client.group_metadata().state == MemberState.REBALANCING:
                client._coordinator.request_rejoin()  # the client has nothing public for it
                found = found or client.poll(timeout_ms=JOIN_MS, max_records=most)
        return dict(found)

    def _commit_done(self) -> None:
        """What a hand-over refuses is kept for the next poll: nothing else might ever come on those partitions."""
        client = self._open()
        held = client.assignment()
        self._done = {at: offset for at, offset in self._done.items() if at in held}
        if not self._done:
            return
        try:
            with _translated():
                client.commit(
                    {at: OffsetAndMetadata(offset, "", -1) for at, offset in self._done.items()},
                    timeout_ms=REQUEST_TIMEOUT_MS,
                )
        except HandedOver as error:
            log.info("partitions_handed_over", reason=str(error))
        else:
            self._done = {}

    def close(self) -> None:
        if self._client is not None:
            self._client.close(autocommit=False, timeout_ms=CONNECT_TIMEOUT_MS)

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """What is not committed by now is not any more: whoever has them next reads it again."""
        self._done = {at: offset for at, offset in self._done.items() if at not in revoked}

    def on_partitions_lost(self, lost: Sequence[TopicPartition]) -> None:
        """Whoever is expelled must not claim in the next join what others have by now."""
        self._assignor.forget()
        self.on_partitions_revoked(lost)

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        for at in assigned:
            if (offset := self._wanted.pop(at, None)) is not None:
                self._open().seek(at, offset)

    def _open(self) -> KafkaConsumer:
        if self._client is None:
            names = self._connection.named(self._topics)
            with _translated():
                client = KafkaConsumer(
                    **self._connection.options, **self._options, partition_assignment_strategy=(self._assignor,)
                )
                for name in names:
                    client.partitions_for_topic(name)  # known before the first assignment, or a second one follows
                client.subscribe(names, listener=self)
            self._client = client
        return self._client


class HandedOver(LogUnavailable):
    """The partitions belong to another member by now."""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except HANDED_OVER as error:
        raise HandedOver(str(error)) from error
    except KafkaError as error:
        raise LogUnavailable(f"Kafka did not answer: {_why(error)}") from error


def _why(error: KafkaError) -> str:
    """The client tells why no broker lets it in to its own log only (kafka-python 3.0.12)."""
    if "Unable to bootstrap" not in str(error):
        return str(error)
    return f"{error}: nobody is there, or does not let us in (protocol, password, certificate: settings infra.kafka_…)"


def _record(position: Position, record: Any) -> Record:
    """Whoever wrote it: a key that is no text, or a record without a value, is for the reader to refuse."""
    key = (record.key or b"").decode(errors="backslashreplace")
    return Record(position, key, record.value or b"", datetime.fromtimestamp(record.timestamp / 1000, UTC))


def _create(admin: KafkaAdminClient, wanted: Mapping[str, dict[str, Any]]) -> None:
    missing = wanted.keys() - set(admin.list_topics())
    try:
        if missing:
            admin.create_topics({name: wanted[name] for name in missing}, wait_for_metadata=True)
    except TopicAlreadyExistsError:  # another process was quicker
        admin.wait_for_topics(list(missing))


def _partitions(admin: KafkaAdminClient, topics: Sequence[str]) -> list[TopicPartition]:
    """Of these topics, as many as Kafka has now."""
    return [
        TopicPartition(topic["name"], partition["partition_index"])
        for topic in (admin.describe_topics(list(topics)) if topics else ())
        for partition in topic["partitions"]
    ]


def _offsets(
    admin: KafkaAdminClient, partitions: Sequence[TopicPartition], spec: OffsetSpec | int
) -> dict[TopicPartition, int]:
    found = admin.list_partition_offsets(dict.fromkeys(partitions, spec)) if partitions else {}
    return {at: offset.offset for at, offset in found.items()}


def _committed(admin: KafkaAdminClient, group: str, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """0 where the group never committed."""
    found = admin.list_group_offsets({group: list(partitions)})[group]
    return {at: max(0, found[at].offset) if at in found else 0 for at in partitions}


def _trim(admin: KafkaAdminClient, prefix: str, before_ms: int) -> int:
    partitions = _partitions(admin, [name for name in admin.list_topics() if name.startswith(prefix)])
    first, end = (_offsets(admin, partitions, spec) for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST))
    found = _offsets(admin, partitions, before_ms)  # -1 where nothing is as young as that
    cut = {at: offset if offset >= 0 else end[at] for at, offset in found.items()}
    if gone := {at: offset for at, offset in cut.items() if offset > first[at]}:
        admin.delete_records(gone)
    return sum(offset - first[at] for at, offset in gone.items())
