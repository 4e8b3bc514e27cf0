"""What is old leaves whole, a step at a time, and nothing else does."""

from datetime import timedelta

from sqlalchemy import func, select

from feedback.intake.expiry import drop_older
from feedback.tables import ChoiceRow, InferenceRow, VoteEventRow, VoteRow, VoteTargetRow
from tests.support.events import NOON, make_comparison, moment
from tests.support.feedback import Event, Room, a_days_events

TABLES = (InferenceRow, ChoiceRow, VoteEventRow, VoteRow, VoteTargetRow)
DAY = 86400.0


def counted(room: Room) -> list[int]:
    with room.database.reading() as session:
        return [session.scalar(select(func.count()).select_from(table)) or 0 for table in TABLES]


def drop(room: Room, days: float, step: int = 5000) -> int:
    with room.database.transaction() as session:
        return drop_older(session, NOON + timedelta(days=days), step)


def test_what_is_young_enough_stays(room: Room) -> None:
    room.append(a_days_events(6))
    room.consume()
    before = counted(room)
    assert drop(room, -1) == 0
    assert counted(room) == before


def test_what_is_older_goes_with_all_that_hangs_on_it(room: Room) -> None:
    room.append(a_days_events(6))
    room.consume()
    total = sum(counted(room))
    assert drop(room, 1) == total
    assert counted(room) == [0] * 5


def test_it_goes_in_steps(room: Room) -> None:
    room.append(a_days_events(6))
    room.consume()
    answers = counted(room)[0]
    drop(room, 1, step=2)
    assert counted(room)[0] == answers - 2
    while drop(room, 1, step=2):
        pass
    assert counted(room) == [0] * 5


def test_a_vote_that_was_changed_lately_keeps_its_present_value(room: Room) -> None:
    room.append(a_days_events(1))
    room.append(
        [Event(make_comparison("r0a", "r0b", "tie"), "changed", {"rater": "rater-0", "occurred_at": moment(5 * DAY)})]
    )
    room.consume()
    drop(room, 1)
    with room.database.reading() as session:
        assert session.scalars(select(VoteEventRow.occurred_at)).all() == [moment(5 * DAY)]
        assert session.scalar(select(func.count()).select_from(VoteRow)) == 1
