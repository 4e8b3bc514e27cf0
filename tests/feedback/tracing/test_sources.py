"""The events behind a version are counted from its shards once, and read a page at a time."""

from collections import Counter
from datetime import timedelta

import pytest

from feedback.intake.expiry import drop_older
from feedback.tracing import sources
from infra.artifacts import ArtifactStore
from infra.clock import now
from infra.contracts.events import Consent
from infra.contracts.traces import EventState
from tests.feedback.tracing.test_reach import every_row, put
from tests.support.events import make_choice, make_inference
from tests.support.feedback import AS_OF, Event, Room, a_days_events, a_messy_days_events
from tests.support.lineages import VERSION, trace_answer, train
from tests.support.people import MIA, mias_day, others_day


def late_answer(version: str = VERSION) -> Event:
    chat = make_inference("late", choices=[make_choice(version=version)])
    return Event(chat, "late", {"occurred_at": AS_OF + timedelta(days=3), "consent": Consent(train=False)})


def test_each_event_is_counted_once_over_all_datasets(room: Room) -> None:
    put(room, *a_days_events(), late_answer())
    first = room.build()
    put(room, *a_messy_days_events())
    second = room.build(as_of=AS_OF + timedelta(hours=1))
    train(room, first, second)
    (found,) = trace_answer(room, "late").versions
    assert found.events.count == len(every_row(room)) > 50
    assert (found.events.complete, found.events.page) == (True, [])


def test_pages_name_each_event_once_with_its_kind_and_state(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PIECE", 7)
    put(room, *a_days_events(), late_answer())
    train(room, room.build())
    pages = [
        trace_answer(room, "late", events=True, offset=at, limit=10).versions[0].events for at in range(0, 100, 10)
    ]
    names = [event.event_id for page in pages for event in page.page]
    assert names == sorted(every_row(room))
    assert pages[0].count == len(names)
    kinds = Counter(event.kind for page in pages for event in page.page)
    assert kinds.keys() == {"inference", "comparison", "thumbs", "correction"}
    assert {event.state for page in pages for event in page.page} == {EventState.STORED, EventState.JOINED}


def test_the_shards_are_read_the_first_time_only(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    put(room, *a_days_events(), late_answer())
    train(room, room.build())
    first = trace_answer(room, "late")
    opened = list[str]()
    real = ArtifactStore.open
    monkeypatch.setattr(ArtifactStore, "open", lambda store, path: opened.append(path) or real(store, path))  # type: ignore[func-returns-value]
    assert trace_answer(room, "late") == first
    assert [path.split("/")[0] for path in opened] == ["sources"]


def test_what_was_counted_before_an_erasure_stays_and_names_the_erased(room: Room) -> None:
    put(room, *mias_day(), *others_day(), late_answer())
    train(room, room.build(as_of=now()))
    before = trace_answer(room, "late").versions[0].events
    room.erase(MIA)
    room.consume()
    room.eraser().turn()
    (version,) = trace_answer(room, "late", events=True).versions
    assert (version.events.count, version.events.complete) == (before.count, True)
    assert {event.state for event in version.events.page} >= {EventState.ERASED, EventState.STORED}
    assert len(version.erasures) == 1


def test_what_is_counted_after_an_erasure_says_that_it_is_not_everything(room: Room) -> None:
    put(room, *mias_day(), *others_day(), late_answer())
    train(room, room.build(as_of=now()))
    room.erase(MIA)
    room.consume()
    room.eraser().turn()
    events = trace_answer(room, "late").versions[0].events
    assert (events.complete, events.count) == (False, len(every_row(room)))


def test_an_event_that_has_left_the_database_is_told_to_be_gone(room: Room) -> None:
    put(room, *a_days_events(), late_answer())
    train(room, room.build())
    with room.database.transaction() as session:
        drop_older(session, AS_OF + timedelta(days=1))
    page = trace_answer(room, "late", events=True).versions[0].events.page
    assert {(event.kind, event.state) for event in page} == {(None, EventState.GONE)}
