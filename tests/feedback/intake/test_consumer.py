"""Every acknowledged event is stored exactly once, whatever dies, and what cannot be read is kept aside."""

import json
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from feedback.errors import Stopping
from feedback.intake.consumer import GROUP, Loop, following, lag, preceding
from feedback.intake.decode import TOPICS
from feedback.tables import ChoiceRow, DeadLetterRow, InferenceRow, VoteEventRow, VoteRow
from infra.contracts.events import DEAD_LETTER_TOPIC, FEEDBACK_TOPIC, INFERENCE_TOPIC, DeadLetter
from infra.eventlog.base import Consumer, Offsets, Position, Record
from infra.keystore.sqlite import SqliteKeyStore
from infra.sealing import Keyring
from tests.support.events import (
    NOON,
    TENANT,
    make_comparison,
    make_envelope,
    make_feedback,
    make_inference,
    make_record,
    moment,
)
from tests.support.feedback import Event, Room, a_days_events


def counted(room: Room) -> dict[str, int]:
    with room.database.reading() as session:
        tables = (InferenceRow, ChoiceRow, VoteEventRow, VoteRow)
        return {t.__tablename__: session.scalar(select(func.count()).select_from(t)) or 0 for t in tables}


def dead_letters(room: Room) -> list[DeadLetter]:
    consumer = room.eventlog.consumer("test", [DEAD_LETTER_TOPIC])
    records = consumer.poll(100, 0.1)
    consumer.close()
    return [DeadLetter.model_validate_json(record.value) for record in records]


class Scripted:
    """A consumer that hands out the given batches and writes down what is asked of it."""

    def __init__(self, *batches: Sequence[Record]) -> None:
        self.batches = list(batches)
        self.committed: list[Offsets] = []
        self.sought: list[Offsets] = []

    def poll(self, max_records: int, timeout_s: float) -> Sequence[Record]:
        return self.batches.pop(0) if self.batches else []

    def commit(self, offsets: Offsets) -> None:
        self.committed.append(offsets)

    def seek(self, offsets: Offsets) -> None:
        self.sought.append(offsets)

    def stay(self) -> None:
        """There is nobody else."""

    def close(self) -> None:
        """Nothing is held."""


def make_loop(room: Room, consumer: Consumer, stop: threading.Event | None = None) -> Loop:
    return Loop(room.intake(room.eventlog.producer()), consumer, stop or threading.Event(), batch_size=10, poll_s=0.01)


def exhaust(loop: Loop) -> None:
    """Until nothing more comes and everything is settled."""
    while loop.turn():
        pass


@contextmanager
def unreachable(room: Room, monkeypatch: pytest.MonkeyPatch, times: int) -> Iterator[None]:
    """The database refuses so many transactions, then works again."""
    left = iter(range(times))
    real = room.database.concurrent

    @contextmanager
    def refusing() -> Iterator[Session]:
        if next(left, None) is not None:
            raise OperationalError("BEGIN", {}, Exception("the database is locked"))
        with real() as session:
            yield session

    with monkeypatch.context() as patch:
        patch.setattr(room.database, "concurrent", refusing)
        yield


def test_events_are_stored_with_their_choices_and_their_history(room: Room) -> None:
    room.append(a_days_events(4))
    assert room.consume() == len(a_days_events(4))
    assert counted(room) == {"inferences": 8, "choices": 8, "vote_events": 6, "votes": 6}


def test_an_event_that_comes_twice_is_stored_once(room: Room) -> None:
    events = a_days_events(6)
    room.append([*events, *random.Random(2).sample(events, 10)])
    room.consume(batch_size=5)
    once = counted(room)
    room.append(events)
    room.consume()
    assert counted(room) == once
    assert once["inferences"] == 12


def test_the_same_records_again_change_nothing(room: Room) -> None:
    """As after a crash between the database's commit and the offset's."""
    records = [make_record(room.sealer, make_inference("r1"), "i"), make_record(room.sealer, make_feedback("r1"), "v")]
    consumer = Scripted(records, records)
    loop = make_loop(room, consumer)
    loop.turn()
    loop.settle()
    before = counted(room)
    loop.turn()
    loop.settle()
    assert counted(room) == before
    assert room.metrics.events.labels("repeated")._value.get() == 2


def test_what_people_wrote_is_nowhere_in_the_clear(room: Room) -> None:
    fix = make_feedback(
        "r1", kind="correction", name="correction", value="the correction of Ada", comment="her comment"
    )
    chat = make_inference("r1", prompt="her question", texts=["the answer she got"])
    room.append([Event(chat, "i"), Event(fix, "v")])
    room.consume()
    with room.database.transaction() as session:
        session.connection().exec_driver_sql("SELECT 1")
    room.database.close()
    stored = b"".join(path.read_bytes() for path in room.home.glob("state.db*"))
    for words in (b"the correction of Ada", b"her comment", b"her question", b"the answer she got"):
        assert words not in stored


def test_the_current_value_is_the_latest_one_and_the_history_is_kept(room: Room) -> None:
    votes = [Event(make_feedback("r1", value=at % 2 == 0), f"v{at}", {"occurred_at": moment(at)}) for at in range(5)]
    room.append([votes[4], votes[0], votes[2], votes[3], votes[1]])
    room.consume(batch_size=2)
    with room.database.reading() as session:
        (row,) = session.scalars(select(VoteRow)).all()
        latest = session.scalar(select(VoteEventRow).order_by(VoteEventRow.occurred_at.desc()).limit(1))
        assert latest is not None
        assert row.event_id == latest.event_id
    assert counted(room)["vote_events"] == 5


def test_of_two_events_of_one_response_the_earlier_one_stays(room: Room) -> None:
    early = Event(make_inference("r1", texts=["first", "second"]), "early", {"occurred_at": moment(1)})
    late = Event(make_inference("r1", texts=["other"]), "late", {"occurred_at": moment(2)})
    for order in ((late, early), (early, late)):
        room.append(order)
        room.consume(batch_size=1)
        assert counted(room)["choices"] == 2


@pytest.mark.parametrize("batch_size", [1, 10])
@pytest.mark.parametrize("arrival", [(0, 1), (1, 0)])
def test_of_a_vote_sent_again_under_its_idempotency_key_the_first_sending_stays(
    room: Room, arrival: tuple[int, int], batch_size: int
) -> None:
    sent = [(make_feedback(value=True), moment(5)), (make_feedback(value=False), moment(9))]
    room.append(Event(*(sent[at][0], "same key", {"occurred_at": sent[at][1]})) for at in arrival)
    room.consume(batch_size=batch_size)
    with room.database.reading() as session:
        times = session.scalars(select(VoteEventRow.occurred_at)), session.scalars(select(VoteRow.occurred_at))
        assert [list(found) for found in times] == [[moment(5)], [moment(5)]]


def test_a_time_without_a_zone_is_refused_and_holds_up_nothing(room: Room) -> None:
    body = make_inference()
    envelope = make_envelope(room.sealer, body).model_dump(mode="json")
    naive = json.dumps({**envelope, "occurred_at": "2026-03-10T12:00:00"}).encode()
    room.append_raw([(INFERENCE_TOPIC, "r1", naive), (INFERENCE_TOPIC, "r1", make_envelope(room.sealer, body))])
    room.consume()
    assert [letter.reason for letter in dead_letters(room)] == [
        "envelope: occurred_at: Input should have timezone info"
    ]
    assert counted(room)["inferences"] == 1


def test_a_payload_that_cannot_be_read_goes_to_the_dead_letters_with_its_bytes(room: Room) -> None:
    room.append_raw([(FEEDBACK_TOPIC, "r1", b"\xff not JSON")])
    room.append(a_days_events(2))
    room.consume()
    (letter,) = dead_letters(room)
    assert letter.payload == b"\xff not JSON"
    assert letter.topic == FEEDBACK_TOPIC
    assert letter.reason.startswith("envelope: ")
    assert counted(room)["inferences"] == 4
    with room.database.reading() as session:
        (row,) = session.scalars(select(DeadLetterRow)).all()
        assert (row.topic, row.partition, row.offset) == (FEEDBACK_TOPIC, letter.partition, letter.offset)


def test_a_dead_letter_is_written_once_though_its_record_comes_again(room: Room) -> None:
    broken = Record(Position(FEEDBACK_TOPIC, 0, 7), "r1", b"broken", NOON)
    loop = make_loop(room, Scripted([broken], [broken]))
    exhaust(loop)
    loop.intake.dead_letters.close()
    assert len(dead_letters(room)) == 1
    assert room.metrics.dead_letters.labels(FEEDBACK_TOPIC)._value.get() == 1


def test_an_erased_persons_event_is_neither_stored_nor_refused(room: Room) -> None:
    room.append([Event(make_feedback("r1"), "v", {"rater": "ada"})])
    Keyring(SqliteKeyStore(room.home / "keyring.db")).destroy(TENANT, "ada")
    room.consume()
    assert counted(room)["vote_events"] == 0
    assert dead_letters(room) == []
    assert room.metrics.events.labels("erased")._value.get() == 1


def test_a_database_that_is_away_for_a_moment_loses_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.append(a_days_events(2))
    with unreachable(room, monkeypatch, times=2):
        room.consume()
    assert counted(room)["inferences"] == 4
    assert lag(room.eventlog) == 0


def test_offsets_are_committed_only_after_the_database(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    stop.set()
    record = make_record(room.sealer, make_feedback("r1"), "v", offset=4)
    consumer = Scripted([record])
    loop = make_loop(room, consumer, stop)
    with unreachable(room, monkeypatch, times=1), pytest.raises(Stopping):
        exhaust(loop)
    assert consumer.committed == []
    assert consumer.sought == [{(FEEDBACK_TOPIC, 0): 4}]


def test_after_an_unforeseen_error_the_same_records_come_again(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.append(a_days_events(2))
    consumer = room.eventlog.consumer(GROUP, TOPICS)
    loop = make_loop(room, consumer)
    with monkeypatch.context() as patch:
        patch.setattr("feedback.intake.repository.store", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            exhaust(loop)
    exhaust(loop)
    consumer.close()
    assert counted(room)["inferences"] == 4


def test_what_is_read_while_a_batch_cannot_be_stored_comes_again_with_it(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next batch is decoded by then; neither is lost, and the second is not committed before the first."""
    stop = threading.Event()
    stop.set()
    records = [make_record(room.sealer, make_feedback("r1"), f"v{at}", offset=at) for at in range(2)]
    consumer = Scripted(records[:1], records[1:])
    loop = make_loop(room, consumer, stop)
    with unreachable(room, monkeypatch, times=1):
        assert loop.turn() == 1
        with pytest.raises(Stopping):
            loop.turn()
    assert consumer.committed == []
    assert consumer.sought == [{(FEEDBACK_TOPIC, 0): 0}]


def test_batches_are_stored_in_the_order_in_which_they_came(room: Room) -> None:
    records = [make_record(room.sealer, make_feedback("r1"), f"v{at}", offset=at) for at in range(6)]
    consumer = Scripted(*([record] for record in records))
    loop = make_loop(room, consumer)
    exhaust(loop)
    assert consumer.committed == [{(FEEDBACK_TOPIC, 0): at + 1} for at in range(6)]


def test_the_batch_under_way_is_committed_at_the_end(room: Room) -> None:
    consumer = Scripted([make_record(room.sealer, make_feedback("r1"), "v", offset=4)])
    loop = make_loop(room, consumer)
    loop.turn()
    loop.close()
    assert consumer.committed == [{(FEEDBACK_TOPIC, 0): 5}]
    assert counted(room)["vote_events"] == 1


def test_a_dead_letter_is_sent_once_though_its_row_could_not_be_stored_at_first(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make_loop(room, Scripted([Record(Position(FEEDBACK_TOPIC, 0, 7), "r1", b"broken", NOON)]))
    with unreachable(room, monkeypatch, times=2):
        exhaust(loop)
    loop.intake.dead_letters.close()
    assert len(dead_letters(room)) == 1


def test_a_consumer_that_comes_back_goes_on_where_the_last_one_committed(room: Room) -> None:
    events = a_days_events(6)
    room.append(events[:9])
    first = room.consume()
    room.append(events[9:])
    assert first == 9
    assert room.consume() == len(events) - 9


def test_the_lag_is_what_is_on_the_log_and_not_stored(room: Room) -> None:
    room.append(a_days_events(2))
    assert lag(room.eventlog) == len(a_days_events(2))
    room.consume()
    assert lag(room.eventlog) == 0


def test_offsets_follow_the_last_record_of_each_partition() -> None:
    records = [
        Record(Position(topic, partition, offset), "k", b"", NOON)
        for topic, partition, offset in [(FEEDBACK_TOPIC, 0, 3), (FEEDBACK_TOPIC, 0, 4), (INFERENCE_TOPIC, 1, 9)]
    ]
    assert following(records) == {(FEEDBACK_TOPIC, 0): 5, (INFERENCE_TOPIC, 1): 10}
    assert preceding(records) == {(FEEDBACK_TOPIC, 0): 3, (INFERENCE_TOPIC, 1): 9}


def test_two_tenants_may_have_responses_of_the_same_name(room: Room) -> None:
    room.append_raw(
        ("thumbwheel.inference.v1", "r1", make_envelope(room.sealer, make_inference("r1"), tenant, tenant=tenant))
        for tenant in ("acme", "default")
    )
    room.append([Event(make_comparison("r1", "r1#1"), "vote")])
    room.consume()
    assert counted(room)["inferences"] == 2
