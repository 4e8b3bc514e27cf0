"""What every event log must do, whichever stands behind it."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from uuid6 import uuid7

from infra.eventlog.base import Consumer, EventLog, LogUnavailable, Record
from infra.eventlog.kafka import Connection, KafkaEventLog
from infra.eventlog.sqlite import SqliteEventLog
from infra.services.kafka import Kafka

TOPIC, OTHER = "thumbwheel.feedback.v1", "thumbwheel.inference.v1"
PARTITIONS = 4
PATIENCE_S = 20


@pytest.fixture(params=["sqlite", "kafka"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
    opened = open_kafka(request) if request.param == "kafka" else SqliteEventLog(tmp_path / "log.db", PARTITIONS)
    yield opened
    opened.close()


def open_kafka(request: pytest.FixtureRequest) -> KafkaEventLog:
    """Topics and groups of its own; a member that is idle is replaced as soon as the broker allows."""
    kafka: Kafka = request.getfixturevalue("kafka")
    connection = Connection([kafka.address], prefix=f"{uuid7().hex}.")
    opened = KafkaEventLog(connection, PARTITIONS, idle_s=4, session_s=6)
    opened.prepare({TOPIC: 1, OTHER: 1})
    return opened


def append(log: EventLog, count: int, *, topic: str = TOPIC, key: str | None = None) -> None:
    producer = log.producer()
    pending = [producer.append(topic, key or f"key-{n}", f"value-{n}".encode()) for n in range(count)]
    for future in pending:
        future.result(timeout=10)
    producer.close()


def drain(
    log: EventLog, group: str = "readers", *, commit: bool = True, topics: tuple[str, ...] = (TOPIC,)
) -> list[Record]:
    """Until the group has read all there is; a poll more shows that there is no more."""
    committed, ends = log.committed(group, topics), log.end_offsets(topics)
    consumer = log.consumer(group, topics)
    records = read(consumer, sum(end - committed[place] for place, end in ends.items()))
    records += consumer.poll(100, timeout_s=0.2)
    if commit:
        consumer.commit(next_offsets(records))
    consumer.close()
    return records


def read(consumer: Consumer, count: int) -> list[Record]:
    """That many records, however long the group takes to give this member its partitions."""
    records: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(records) < count and time.monotonic() < deadline:
        records += consumer.poll(100, timeout_s=0.2)
    return records


def read_until(stop: threading.Event, member: Consumer, seen: list[Record]) -> None:
    while not stop.is_set():
        batch = list(member.poll(100, timeout_s=0.2))
        member.commit(next_offsets(batch))
        seen += batch


def next_offsets(records: list[Record]) -> dict[tuple[str, int], int]:
    return {(r.position.topic, r.position.partition): r.position.offset + 1 for r in records}


def test_what_was_acknowledged_is_read_back_once(log: EventLog) -> None:
    append(log, 50)
    assert sorted(record.value for record in drain(log)) == sorted(f"value-{n}".encode() for n in range(50))


def test_records_of_one_key_keep_their_order(log: EventLog) -> None:
    append(log, 30, key="one")
    assert [record.value for record in drain(log)] == [f"value-{n}".encode() for n in range(30)]


def test_records_of_one_key_share_a_partition(log: EventLog) -> None:
    append(log, 10, key="one")
    assert len({record.position.partition for record in drain(log)}) == 1


def test_what_was_not_committed_comes_again(log: EventLog) -> None:
    append(log, 5)
    assert len(drain(log, commit=False)) == 5
    assert len(drain(log)) == 5


def test_what_was_committed_does_not_come_again(log: EventLog) -> None:
    append(log, 5)
    drain(log)
    append(log, 2)
    assert len(drain(log)) == 2


def test_groups_read_independently(log: EventLog) -> None:
    append(log, 3)
    assert len(drain(log, "readers")) == len(drain(log, "others")) == 3


def test_a_consumer_sees_its_own_topics_only(log: EventLog) -> None:
    append(log, 3, topic=OTHER)
    assert drain(log) == []
    assert len(drain(log, topics=(TOPIC, OTHER))) == 3


def test_seek_goes_back_to_an_earlier_record(log: EventLog) -> None:
    append(log, 4, key="one")
    consumer = log.consumer("readers", [TOPIC])
    first = consumer.poll(100, timeout_s=PATIENCE_S)[0]
    consumer.seek({(TOPIC, first.position.partition): 2})
    assert [record.value for record in consumer.poll(100, timeout_s=PATIENCE_S)] == [b"value-2", b"value-3"]
    consumer.close()


def test_seek_holds_before_the_first_poll_too(log: EventLog) -> None:
    append(log, 4, key="one")
    (place,) = (place for place, end in log.end_offsets([TOPIC]).items() if end)
    consumer = log.consumer("readers", [TOPIC])
    consumer.seek({place: 3})
    assert [record.value for record in consumer.poll(100, timeout_s=PATIENCE_S)] == [b"value-3"]
    consumer.close()


def test_a_member_that_was_paused_does_not_take_the_groups_commits_back(log: EventLog) -> None:
    append(log, 6, key="one")
    paused = log.consumer("readers", [TOPIC])
    stale = next_offsets(list(paused.poll(2, timeout_s=PATIENCE_S)))
    drained = next_offsets(drain_as_successor(log))
    paused.commit(stale)
    assert {place: end for place, end in log.committed("readers", [TOPIC]).items() if end} == drained
    paused.close()


def drain_as_successor(log: EventLog) -> list[Record]:
    """What another member reads and commits once it has all partitions."""
    successor = log.consumer("readers", [TOPIC])
    successor.seek(dict.fromkeys(log.end_offsets([TOPIC]), 0))
    records = read(successor, 6)
    successor.commit(next_offsets(records))
    successor.close()
    return records


def test_a_producer_that_was_closed_takes_nothing_more(log: EventLog) -> None:
    producer = log.producer()
    producer.close()
    with pytest.raises(LogUnavailable, match="closed"):
        producer.append(TOPIC, "one", b"late").result(timeout=5)


def test_a_poll_takes_no_more_than_asked_for(log: EventLog) -> None:
    append(log, 10)
    consumer = log.consumer("readers", [TOPIC])
    assert len(consumer.poll(3, timeout_s=PATIENCE_S)) == 3
    consumer.close()


def test_two_members_of_a_group_share_the_partitions(log: EventLog) -> None:
    """Each reads in a thread of its own, as in a process: a group is not joined while nobody polls."""
    members = [log.consumer("readers", [TOPIC]) for _ in range(2)]
    seen: list[list[Record]] = [[], []]
    written, deadline, stop = 0, time.monotonic() + PATIENCE_S, threading.Event()
    with ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(read_until, stop, *each) for each in zip(members, seen, strict=True)]
        while time.monotonic() < deadline and (not all(seen) or len(seen[0]) + len(seen[1]) < written):
            if not all(seen):  # until each has some partitions
                append(log, 10)
                written += 10
            stop.wait(0.05)
        stop.set()
        for done in reading:
            done.result()
    for member in members:
        member.close()
    assert all(seen)
    assert len({record.position for records in seen for record in records}) == written
    assert log.committed("readers", [TOPIC]) == log.end_offsets([TOPIC])


def test_a_member_that_leaves_hands_its_partitions_over(log: EventLog) -> None:
    first, second = log.consumer("readers", [TOPIC]), log.consumer("readers", [TOPIC])
    first.poll(1, timeout_s=0), second.poll(1, timeout_s=0)
    first.close()
    append(log, 40)
    assert len({record.value for record in read(second, 40)}) == 40
    second.close()


def test_end_offsets_and_commits_tell_the_lag(log: EventLog) -> None:
    append(log, 6)
    assert sum(log.end_offsets([TOPIC]).values()) == 6
    assert sum(log.committed("readers", [TOPIC]).values()) == 0
    drain(log)
    assert log.committed("readers", [TOPIC]) == log.end_offsets([TOPIC])


def test_retention_drops_what_is_older_and_keeps_the_offsets(log: EventLog) -> None:
    append(log, 3, key="one")
    assert log.trim(datetime.now(UTC) + timedelta(seconds=1)) == 3
    append(log, 1, key="one")
    consumer = log.consumer("readers", [TOPIC])
    (record,) = read(consumer, 1)
    assert record.position.offset == 3
    consumer.close()


def test_a_log_that_was_closed_is_whole_when_opened_again(tmp_path: Path) -> None:
    append(SqliteEventLog(tmp_path / "log.db", PARTITIONS), 7)
    assert len(drain(SqliteEventLog(tmp_path / "log.db", PARTITIONS))) == 7
