"""What only Kafka can do to us: go away and come back, and take partitions from a member that is still busy."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from kafka.admin import NewPartitions
from kafka.errors import KafkaTimeoutError, RebalanceInProgressError
from uuid6 import uuid7

from infra.eventlog import kafka as module
from infra.eventlog.base import LogUnavailable, Record
from infra.eventlog.kafka import Connection, KafkaEventLog
from infra.services.kafka import Kafka
from tests.infra.eventlog.test_conformance import PATIENCE_S, TOPIC, append, next_offsets, read, read_until

NOBODY = Connection(["127.0.0.1:9"])


@pytest.fixture
def log(kafka: Kafka) -> Iterator[KafkaEventLog]:
    made = KafkaEventLog(Connection([kafka.address], prefix=f"{uuid7().hex}."), 4, idle_s=4, session_s=6)
    made.prepare({TOPIC: 1})
    yield made
    made.close()


def stopped(kafka: Kafka) -> None:
    """As if the broker were swallowed by the network: it holds its connections and says nothing."""
    record = kafka.record
    assert record is not None
    os.kill(record.pid, signal.SIGSTOP)


def resumed(kafka: Kafka) -> None:
    record = kafka.record
    assert record is not None
    os.kill(record.pid, signal.SIGCONT)


def test_without_a_broker_an_append_is_refused_and_never_blocks() -> None:
    producer = KafkaEventLog(NOBODY, 4).producer()
    began = time.monotonic()
    waiting = [producer.append(TOPIC, "one", b"value") for _ in range(100)]
    assert time.monotonic() - began < module.CONNECT_TIMEOUT_MS / 1000
    for done in waiting:
        with pytest.raises(LogUnavailable, match="Kafka did not take the record"):
            done.result(timeout=PATIENCE_S)
    producer.close()


def test_without_a_broker_every_question_says_so() -> None:
    log = KafkaEventLog(NOBODY, 4)
    with pytest.raises(LogUnavailable, match="Kafka did not answer"):
        log.end_offsets([TOPIC])
    with pytest.raises(LogUnavailable, match="Kafka did not answer"):
        log.consumer("readers", [TOPIC]).poll(1, timeout_s=0)


def test_a_broker_that_says_nothing_refuses_in_time_and_takes_records_again_afterwards(
    kafka: Kafka, log: KafkaEventLog
) -> None:
    producer = log.producer()
    producer.append(TOPIC, "one", b"before").result(timeout=PATIENCE_S)
    stopped(kafka)
    try:
        with pytest.raises(LogUnavailable):
            producer.append(TOPIC, "one", b"meanwhile").result(timeout=2 * module.DELIVERY_TIMEOUT_MS / 1000)
    finally:
        resumed(kafka)
    deadline = time.monotonic() + 2 * PATIENCE_S
    while True:
        try:
            producer.append(TOPIC, "one", b"after").result(timeout=PATIENCE_S)
            break
        except LogUnavailable:
            assert time.monotonic() < deadline
    producer.close()


def test_a_broker_that_was_killed_for_longer_than_a_delivery_may_take_takes_records_again(
    kafka: Kafka, log: KafkaEventLog
) -> None:
    producer = log.producer()
    producer.append(TOPIC, "one", b"before").result(timeout=PATIENCE_S)
    record = kafka.record
    assert record is not None
    os.kill(record.pid, signal.SIGKILL)
    until = time.monotonic() + module.DELIVERY_TIMEOUT_MS / 1000 + 2
    while time.monotonic() < until:  # as the shipper does: again and again, many at once
        for done in [producer.append(TOPIC, f"key-{n}", b"meanwhile") for n in range(200)]:
            with pytest.raises(LogUnavailable):
                done.result(timeout=2 * PATIENCE_S)
        time.sleep(0.5)
    kafka.start()
    deadline = time.monotonic() + 2 * PATIENCE_S
    while True:
        try:
            producer.append(TOPIC, "one", b"after").result(timeout=PATIENCE_S)
            break
        except (LogUnavailable, TimeoutError):
            assert time.monotonic() < deadline
    producer.close()


def test_more_than_the_buffer_holds_is_refused_at_once(log: KafkaEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUFFER_BYTES", 100)
    producer = log.producer()
    taken, refused = producer.append(TOPIC, "one", bytes(80)), producer.append(TOPIC, "one", bytes(80))
    with pytest.raises(LogUnavailable, match="too many"):
        refused.result(timeout=0)
    taken.result(timeout=PATIENCE_S)
    producer.append(TOPIC, "one", bytes(80)).result(timeout=PATIENCE_S)
    producer.close()


def test_a_member_that_stays_keeps_its_partitions_while_it_takes_nothing(log: KafkaEventLog) -> None:
    append(log, 20)
    busy = log.consumer("readers", [TOPIC])
    taken = read(busy, 20)
    other, again, stop = log.consumer("readers", [TOPIC]), list[Record](), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_until, stop, other, again)
        until = time.monotonic() + 6  # longer than an idle member is waited for
        while time.monotonic() < until:
            busy.stay()
        deadline = time.monotonic() + PATIENCE_S  # a hand-over that is under way refuses commits until it is complete
        while log.committed("readers", [TOPIC]) != log.end_offsets([TOPIC]):
            assert time.monotonic() < deadline
            busy.stay()
            busy.commit(next_offsets(taken))
        stop.set()
        reading.result()
    assert len(again) < len(taken)  # the rest went to the other one, who reads it again
    busy.close()
    other.close()


def test_a_commit_that_a_hand_over_refuses_is_made_with_the_next_poll(
    log: KafkaEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, 20)
    member = log.consumer("readers", [TOPIC])
    records = read(member, 20)
    assert member._client is not None
    with monkeypatch.context() as patch:
        patch.setattr(member._client, "commit", refuse)
        member.commit(next_offsets(records))
    assert sum(log.committed("readers", [TOPIC]).values()) == 0
    assert member.poll(1, timeout_s=0.2) == []
    assert log.committed("readers", [TOPIC]) == log.end_offsets([TOPIC])
    member.close()


def test_a_commit_that_fails_in_a_poll_costs_no_record(log: KafkaEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    append(log, 20)
    member = log.consumer("readers", [TOPIC])
    records = read(member, 20)
    assert member._client is not None
    with monkeypatch.context() as patch:
        patch.setattr(member._client, "commit", refuse)
        member.commit(next_offsets(records))
        append(log, 20)
        patch.setattr(member._client, "commit", time_out)
        for _ in range(5):
            with pytest.raises(LogUnavailable):
                member.poll(100, timeout_s=0.5)
    assert len(read(member, 20)) == 20
    member.close()


def time_out(*_arguments: object, **_options: object) -> None:
    raise KafkaTimeoutError("no answer")


def test_a_join_that_new_metadata_began_is_completed_by_polls_shorter_than_it(log: KafkaEventLog) -> None:
    append(log, 20)
    member = log.consumer("readers", [TOPIC])
    member._options = {**member._options, "metadata_max_age_ms": 100}
    records = read(member, 20)
    more = {log._connection.prefix + TOPIC: NewPartitions(12)}
    log._ask(lambda admin: admin.create_partitions(more))
    append(log, 40)
    deadline = time.monotonic() + PATIENCE_S
    while len(records) < 60:
        assert time.monotonic() < deadline
        records += member.poll(100, timeout_s=0.001)
    member.commit(next_offsets(records))
    assert log.committed("readers", [TOPIC]) == log.end_offsets([TOPIC])
    member.close()


def refuse(*_arguments: object, **_options: object) -> None:
    raise RebalanceInProgressError("a hand-over is under way")


def test_a_key_that_is_no_text_can_be_read(kafka: Kafka, log: KafkaEventLog) -> None:
    producer = log.producer()
    client = producer._open()
    client.send(log._connection.prefix + TOPIC, key=b"\xff\xfe", value=None).get(timeout=PATIENCE_S)
    consumer = log.consumer("readers", [TOPIC])
    (record,) = read(consumer, 1)
    assert (record.key, record.value) == (r"\xff\xfe", b"")
    consumer.close()
    producer.close()


def test_topics_are_made_once_and_keep_their_records(log: KafkaEventLog) -> None:
    append(log, 3)
    log.prepare({TOPIC: 1})
    assert sum(log.end_offsets([TOPIC]).values()) == 3
