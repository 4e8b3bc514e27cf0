"""Whatever is on the topics, the consumer goes on: each record ends stored, or in the dead letters with its bytes.

A few hundred payloads, or as many as FUZZ_EXAMPLES says.
"""

import json
import os
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka import KafkaProducer
from sqlalchemy import select

from feedback.intake.consumer import GROUP, Loop
from feedback.intake.deadletters import LetterState, Office
from feedback.intake.decode import TOPICS, decode
from feedback.tables import DeadLetterRow, InferenceRow, VoteEventRow
from feedback.votes import Answered
from infra.contracts.events import FEEDBACK_TOPIC, INFERENCE_TOPIC, Envelope
from infra.database.engine import open_database
from infra.envelopes import REFERENCE, Sealer
from infra.eventlog.base import EventLog, Position, Record
from infra.eventlog.kafka import MAX_RECORD_BYTES, Connection, KafkaEventLog
from infra.services.kafka import Kafka
from infra.services.postgres import Postgres
from tests.support.events import (
    NOON,
    make_comparison,
    make_envelope,
    make_feedback,
    make_inference,
    make_ranking,
    make_sealer,
)
from tests.support.feedback import Room, make_room
from tests.support.servers import emptied_database

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "400"))
BATCH = 40
PATIENCE_S = 120
HEADROOM = 2_000  # of a record, for what Kafka counts besides the value
SIZES = (20_000, 700_000, MAX_RECORD_BYTES - HEADROOM)
Json = dict[str, Any]
Bake = Callable[[Sealer], bytes]


@dataclass(frozen=True, slots=True)
class Payload:
    """`bake` makes the bytes, with an event id of their own each time; None is a record without a value."""

    topic: str
    bake: Bake | None
    key: bytes = b"r1"


# What JSON may hold, and what it may hold that no column takes.
TEXTS = st.one_of(
    st.text(max_size=20), st.sampled_from(["\0", "a\0b", "x" * 300, "é" * 2_100, "\ufeff", "../../x", ""])
)
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([2**15, 2**31, 2**63, 2**70, -(2**63) - 1, 10**400]))
TIMES = st.sampled_from(
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-03-10T12:00:00", "1", "-1e30", ""]
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, TIMES)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
BODIES = {
    INFERENCE_TOPIC: (make_inference,),
    FEEDBACK_TOPIC: (make_feedback, make_comparison, lambda: make_ranking(["r1"], ["r2", "r3"])),
}
TOPIC = st.sampled_from(sorted(BODIES))
ENVELOPE_FIELDS = st.sampled_from(sorted(Envelope.model_fields))


def dumped(document: object) -> bytes:
    return json.dumps(document).encode()


@st.composite
def raw(draw: st.DrawFn) -> Payload:
    """No envelope at all: bytes, text, JSON of something else."""
    data = draw(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode), VALUES.map(dumped)))
    return Payload(draw(TOPIC), lambda _sealer: data)


@st.composite
def good(draw: st.DrawFn) -> Payload:
    """As a gateway writes it, on either topic."""
    topic = draw(TOPIC)
    make = draw(st.sampled_from(BODIES[topic]))
    return Payload(topic, lambda sealer: sealed(sealer, make().model_dump(mode="json")))


@st.composite
def enveloped(draw: st.DrawFn) -> Payload:
    """An envelope that lacks a field, or has something else in it, or another version."""
    topic, name = draw(TOPIC), draw(ENVELOPE_FIELDS)
    make = draw(st.sampled_from(BODIES[topic]))
    change = draw(st.one_of(st.just({}), st.fixed_dictionaries({name: VALUES}), st.builds(version, TEXTS)))

    def bake(sealer: Sealer) -> bytes:
        document = json.loads(sealed(sealer, make().model_dump(mode="json")))
        return dumped({**document, **change} if change else {k: v for k, v in document.items() if k != name})

    return Payload(topic, bake)


def version(minor: str) -> Json:
    return {"schema_version": f"2.{minor}"}


@st.composite
def bodied(draw: st.DrawFn) -> Payload:
    """A good envelope around a body that lacks a field, or has something else in it."""
    topic = draw(TOPIC)
    body = draw(st.sampled_from(BODIES[topic]))().model_dump(mode="json")
    name = draw(st.sampled_from(sorted(body)))
    inside = body["choices"][0] if "choices" in body and draw(st.booleans()) else body
    name = name if inside is body else draw(st.sampled_from(sorted(inside)))
    if draw(st.booleans()):
        del inside[name]
    else:
        inside[name] = draw(st.one_of(VALUES, TIMES))
    return Payload(topic, lambda sealer: sealed(sealer, body))


@st.composite
def broken(draw: st.DrawFn) -> Payload:
    """Sealed, and then changed: the box, its key, the event it belongs to, or where it is said to lie."""
    topic = draw(TOPIC)
    where = draw(
        st.sampled_from(
            [b"", b"x", REFERENCE, REFERENCE + b"bodies/default/x", REFERENCE + b"\xff\0", REFERENCE + b"/" * 5_000]
        )
    )
    change = draw(
        st.one_of(
            st.just({"sealed": b64encode(where).decode()}),
            TEXTS.map(lambda key: {"key_id": key}),
            st.uuids().map(lambda event_id: {"event_id": str(event_id)}),
            TEXTS.map(lambda tenant: {"tenant": tenant, "sealed": b64encode(REFERENCE + tenant.encode()).decode()}),
        )
    )
    make = draw(st.sampled_from(BODIES[topic]))
    return Payload(
        topic, lambda sealer: dumped({**json.loads(sealed(sealer, make().model_dump(mode="json"))), **change})
    )


@st.composite
def torn(draw: st.DrawFn) -> Payload:
    """Good bytes with something cut off, or with a byte that is no UTF-8."""
    topic, share, bad = (
        draw(TOPIC),
        draw(st.floats(0, 0.99)),
        draw(st.sampled_from([b"", b"\xff", b"\xed\xa0\x80", b"\0"])),
    )
    make = draw(st.sampled_from(BODIES[topic]))

    def bake(sealer: Sealer) -> bytes:
        data = sealed(sealer, make().model_dump(mode="json"))
        at = int(len(data) * share)
        return data[:at] + bad + data[at:] if bad else data[:at]

    return Payload(topic, bake)


@st.composite
def huge(draw: st.DrawFn) -> Payload:
    """As long as the log takes: one that says nothing, or a good one with a long comment."""
    size, says_something = draw(st.sampled_from(SIZES)), draw(st.booleans())
    if not says_something:
        return Payload(draw(TOPIC), lambda _sealer: b"[" * size)
    comment = "x" * (size // 2)  # sealed and in base64 it is a third longer
    return Payload(
        FEEDBACK_TOPIC, lambda sealer: sealed(sealer, make_feedback(comment=comment).model_dump(mode="json"))
    )


def sealed(sealer: Sealer, body: Json) -> bytes:
    """An event of its own around a body that need not be one."""
    envelope = make_envelope(sealer, make_feedback())
    context = envelope.event_id.bytes
    if "response_id" in body and "choices" in body and body["response_id"] == "r1":
        body = {**body, "response_id": f"r-{envelope.event_id}"}  # of two events of one response one only is stored
    key_id, box = sealer._keyring.seal(envelope.tenant, envelope.rater, json.dumps(body).encode(), context=context)
    return dumped({**envelope.model_dump(mode="json"), "key_id": key_id, "sealed": b64encode(box).decode()})


USUAL = st.one_of(raw(), good(), enveloped(), bodied(), broken(), torn())
PAYLOADS = st.integers(0, 99).flatmap(lambda dice: huge() if dice == 0 else USUAL)
UNKEYED = st.builds(
    Payload,
    TOPIC,
    st.none() | st.just(lambda _sealer: b"{}"),
    st.sampled_from([b"\xff\xfe", b"\0", b"", b"k" * 3_000_000]),
)  # what only Kafka has: records without a value, keys that are no text


@dataclass
class Post:
    """Takes payloads to a log, consumes them with one loop that lasts, and looks where each of them is now."""

    room: Room
    loop: Loop
    send: Callable[[Sequence[tuple[Payload, bytes | None]]], list[Position]]
    consumed: int = 0
    outcomes: dict[str, int] = field(default_factory=lambda: {"stored": 0, "refused": 0})

    def deliver(self, payloads: Sequence[Payload]) -> None:
        made = [(payload, payload.bake(self.room.sealer) if payload.bake else None) for payload in payloads]
        places = self.send(made)
        self._consume(len(places))
        stored, letters = self._stored(places), self._letters(places)
        values = {at: value for at, (_, value) in zip(places, made, strict=True) if at not in stored | letters.keys()}
        stored |= {at for at, value in values.items() if self._is_told_already(at, value or b"")}
        office = Office(self.room.database, self.room.eventlog, self.room.artifacts)
        for at, (payload, value) in zip(places, made, strict=True):
            assert (at in stored) != (at in letters), f"{at}: {payload} {(value or b'')[:300]!r}"
            if at in letters:
                assert office.payload(letters[at]) == (value or b"")
                assert letters[at].reason and letters[at].state == LetterState.OPEN
        self.outcomes["stored"] += len(stored)
        self.outcomes["refused"] += len(letters)

    def _consume(self, count: int) -> None:
        """Raises whatever would stop the consumer, and TimeoutError where it stands still."""
        wanted, deadline = self.consumed + count, time.monotonic() + PATIENCE_S
        while self.consumed < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{wanted - self.consumed} of {count} records were not consumed")
            self.consumed += self.loop.turn()
        self.loop.settle()

    def _stored(self, places: Sequence[Position]) -> set[Position]:
        found = set()
        with self.room.database.reading() as session:
            for topic, row in ((FEEDBACK_TOPIC, VoteEventRow), (INFERENCE_TOPIC, InferenceRow)):
                rows = session.execute(select(row.log_partition, row.log_offset)).all()
                found |= {Position(topic, partition, offset) for partition, offset in rows}
        return found & set(places)

    def _is_told_already(self, at: Position, value: bytes) -> bool:
        """Of two events of one response one only is stored."""
        event = decode(Record(at, "", value, NOON), self.room.sealer)
        assert isinstance(event, Answered)
        with self.room.database.reading() as session:
            return session.get(InferenceRow, (event.envelope.tenant, event.body.response_id)) is not None

    def _letters(self, places: Sequence[Position]) -> Mapping[Position, DeadLetterRow]:
        with self.room.database.reading() as session:
            rows = session.scalars(select(DeadLetterRow)).all()
        found = {Position(row.topic, row.partition, row.offset): row for row in rows}
        return {at: found[at] for at in places if at in found}


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Post]:
    room = make_room(tmp_path)
    with closing(room.eventlog.producer()) as producer:

        def send(made: Sequence[tuple[Payload, bytes | None]]) -> list[Position]:
            waiting = [producer.append(payload.topic, payload.key.decode(), value or b"") for payload, value in made]
            return [done.result(timeout=PATIENCE_S) for done in waiting]

        yield from opened(room, send)


@pytest.fixture
def served(kafka: Kafka, postgres: Postgres, tmp_path: Path) -> Iterator[Post]:
    """On Kafka and PostgreSQL, written to by a client of its own that knows no rules."""
    prefix = f"{tmp_path.name}-{time.time_ns()}."
    log = KafkaEventLog(Connection([kafka.address], prefix=prefix), 2)
    log.prepare(dict.fromkeys([*TOPICS, "thumbwheel.dead-letter.v1"], 1))
    room = Room(tmp_path, open_database(emptied_database(postgres)), make_sealer(tmp_path), log)
    client = KafkaProducer(
        bootstrap_servers=[kafka.address], max_request_size=2 * MAX_RECORD_BYTES, metrics_enabled=False
    )

    def send(made: Sequence[tuple[Payload, bytes | None]]) -> list[Position]:
        waiting = [client.send(prefix + payload.topic, key=payload.key, value=value) for payload, value in made]
        found = [done.get(timeout=PATIENCE_S) for done in waiting]
        return [Position(at.topic.removeprefix(prefix), at.partition, at.offset) for at in found]

    yield from opened(room, send)
    client.close()


def opened(room: Room, send: Callable[[Sequence[tuple[Payload, bytes | None]]], list[Position]]) -> Iterator[Post]:
    eventlog: EventLog = room.eventlog
    producer, consumer = eventlog.producer(), eventlog.consumer(GROUP, TOPICS)
    loop = Loop(room.intake(producer), consumer, room.stop, batch_size=25, poll_s=0.05)
    yield Post(room, loop, send)
    loop.close()
    consumer.close()
    producer.close()
    room.close()


def fuzz(post: Post, payloads: "st.SearchStrategy[Payload]") -> None:
    """So many payloads as EXAMPLES says, a batch at a time."""

    @settings(
        max_examples=max(1, EXAMPLES // BATCH), deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(payloads, min_size=BATCH, max_size=BATCH))
    def run(batch: list[Payload]) -> None:
        post.deliver(batch)

    run()


@pytest.mark.timeout(int(300 + EXAMPLES / 10))
def test_no_payload_stops_the_embedded_consumer(embedded: Post) -> None:
    fuzz(embedded, PAYLOADS)
    assert min(embedded.outcomes.values()) > 0
    assert sum(embedded.outcomes.values()) == embedded.consumed >= EXAMPLES - BATCH


@pytest.mark.timeout(int(300 + EXAMPLES / 5))
def test_no_payload_stops_the_consumer_of_kafka_and_postgres(served: Post) -> None:
    fuzz(served, st.integers(0, 19).flatmap(lambda dice: UNKEYED if dice == 0 else PAYLOADS))
    assert min(served.outcomes.values()) > 0
    assert sum(served.outcomes.values()) == served.consumed >= EXAMPLES - BATCH


def test_of_two_events_of_one_response_one_is_stored_and_none_refused(embedded: Post) -> None:
    body = {**make_inference("r1").model_dump(mode="json"), "response_id": "the same"}
    embedded.deliver([Payload(INFERENCE_TOPIC, lambda sealer: sealed(sealer, body))] * 2)
    assert embedded.outcomes == {"stored": 2, "refused": 0}
    with embedded.room.database.reading() as session:
        assert len(session.scalars(select(InferenceRow)).all()) == 1
