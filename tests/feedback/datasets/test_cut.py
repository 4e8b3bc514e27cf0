"""A snapshot waits until everything acknowledged before it is stored."""

import threading
from collections.abc import Callable

import pytest

from feedback.datasets.ordering import order_now
from feedback.errors import CutNotReached, Stopping
from feedback.intake.decode import TOPICS
from tests.support.events import TENANT, make_comparison, make_inference
from tests.support.feedback import ALIAS, Event, Room, a_days_events


def later(*, after_s: float, then: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(after_s, then)
    timer.start()
    return timer


def test_a_cut_is_the_logs_end_once_the_consumer_has_reached_it(room: Room) -> None:
    room.append(a_days_events(3))
    timer = later(after_s=0.2, then=room.consume)
    cut = room.cutter().reached()
    timer.join()
    assert cut == room.eventlog.end_offsets(TOPICS)
    assert cut == room.eventlog.committed("feedback", TOPICS)


def test_without_a_consumer_it_says_what_is_missing(room: Room) -> None:
    room.append(a_days_events(3))
    with pytest.raises(CutNotReached, match=f"{len(a_days_events(3))} events .* is the consumer running"):
        room.cutter(timeout_s=0.1).reached()


def test_it_stops_waiting_when_the_process_is_to_end(room: Room) -> None:
    room.append(a_days_events(1))
    later(after_s=0.1, then=room.stop.set)
    with pytest.raises(Stopping):
        room.cutter().reached()


def test_a_vote_whose_answer_is_still_in_a_spool_makes_it_wait_a_moment(room: Room) -> None:
    room.append([Event(make_comparison("r1", "r2"), "choice")])
    room.consume()

    def ship() -> None:
        room.append([Event(make_inference(name), name) for name in ("r1", "r2")])
        room.consume()

    timer = later(after_s=0.2, then=ship)
    order = order_now(room.database, room.cutter(spool_s=5.0), TENANT, ALIAS)
    timer.join()
    assert sum(order.cut.values()) == 3


def test_an_answer_that_never_comes_holds_it_up_no_longer_than_that(room: Room) -> None:
    room.append([Event(make_comparison("r1", "r2"), "choice")])
    room.consume()
    order = order_now(room.database, room.cutter(spool_s=0.1), TENANT, ALIAS)
    assert sum(order.cut.values()) == 1
