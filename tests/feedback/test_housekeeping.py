"""What is done beside the events: gauges, orphans, retention."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from feedback.housekeeping import Housekeeping
from feedback.intake.decode import TOPICS
from feedback.tables import VoteRow
from infra.settings import FeedbackSettings, InfraSettings, Settings
from tests.support.events import make_feedback
from tests.support.feedback import Event, Room, a_days_events


def make_housekeeping(room: Room, *, retention_days: float = 90, orphan_after_s: float = 3600) -> Housekeeping:
    settings = Settings(
        infra=InfraSettings(eventlog_retention_days=retention_days),
        feedback=FeedbackSettings(orphan_after_s=orphan_after_s),
    )
    return Housekeeping(room.database, room.eventlog, room.artifacts, room.metrics, settings)


def gauge(room: Room, name: str) -> float:
    value = room.metrics.registry.get_sample_value(f"thumbwheel_feedback_{name}")
    assert value is not None
    return value


def on_the_log(room: Room) -> int:
    consumer = room.eventlog.consumer("look", TOPICS)
    records = consumer.poll(1000, 0.05)
    consumer.close()
    return len(records)


def test_the_lag_is_told_before_and_after(room: Room) -> None:
    room.append(a_days_events(2))
    make_housekeeping(room).turn()
    assert gauge(room, "lag_events") == len(a_days_events(2))
    room.consume()
    make_housekeeping(room).turn()
    assert gauge(room, "lag_events") == 0


def test_the_age_of_the_oldest_waiting_vote_is_told(room: Room) -> None:
    room.append([Event(make_feedback("r1"), "v")])
    room.consume()
    make_housekeeping(room).turn()
    assert gauge(room, "oldest_unjoined_seconds") > 0


def test_votes_that_waited_too_long_are_orphaned(room: Room) -> None:
    room.append([Event(make_feedback("r1"), "v")])
    room.consume()
    make_housekeeping(room, orphan_after_s=1e-9).turn()
    with room.database.reading() as session:
        assert session.scalars(select(VoteRow.status)).all() == ["orphaned"]
    assert gauge(room, "oldest_unjoined_seconds") == 0


def test_stored_events_leave_the_log_after_their_retention(room: Room) -> None:
    room.append(a_days_events(2))
    room.consume()
    make_housekeeping(room, retention_days=90).turn()
    assert on_the_log(room) == len(a_days_events(2))
    make_housekeeping(room, retention_days=timedelta(microseconds=1) / timedelta(days=1)).turn()
    assert on_the_log(room) == 0


@pytest.mark.parametrize("retention_days", [1e-9])
def test_nothing_leaves_the_log_before_it_is_stored(room: Room, retention_days: float) -> None:
    room.append(a_days_events(2))
    make_housekeeping(room, retention_days=retention_days).turn()
    assert on_the_log(room) == len(a_days_events(2))
