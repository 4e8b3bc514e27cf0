"""Who is erased is in no tally, and is never counted again; what others did stays, without that person's votes."""

from datetime import timedelta

import pytest

from feedback.intake import erasing
from infra.clock import now
from infra.contracts.events import Consent
from tests.support.events import moment
from tests.support.feedback import Room
from tests.support.trials import CANARY, HALF, answered, counted, happen, make_tallier, thumb, told

ONE, OTHER = ("rater-1", CANARY, "champion"), ("rater-2", CANARY, "challenger")
TWO_PEOPLE = [answered("r1"), thumb("r1"), answered("r2", "challenger", rater="rater-2"), thumb("r2", rater="rater-2")]


def test_the_tallies_of_who_is_erased_go_at_once(room: Room) -> None:
    assert told(room, *TWO_PEOPLE).keys() == {ONE, OTHER}
    room.erase("rater-1")
    room.consume()
    assert counted(room).keys() == {OTHER}


def test_what_is_erased_is_not_counted_again(room: Room) -> None:
    counting = make_tallier(room)
    happen(room, *TWO_PEOPLE)
    counting.turn()
    room.erase("rater-1")
    happen(room, *TWO_PEOPLE)
    counting.turn()
    assert counted(room).keys() == {OTHER}
    assert told(room).keys() == {OTHER}


def test_what_came_after_the_erasure_is_counted_alone(room: Room) -> None:
    counting = make_tallier(room)
    happen(room, *TWO_PEOPLE, answered("r3", at=200), thumb("r3", False, at=210), answered("r4", step=HALF, at=300))
    for _ in range(3):
        counting.turn()
    assert (counted(room)[ONE].answers, counted(room)[ONE].votes) == (2, 2)
    room.erase("rater-1", moment(100))
    room.consume()
    assert ONE not in counted(room)
    counting.turn()
    tally = counted(room)[ONE]
    assert (tally.answers, tally.votes, tally.ups, tally.first_at) == (1, 1, 0, moment(200))
    assert counted(room)["rater-1", HALF, "champion"].answers == 1


def test_the_votes_of_who_is_erased_leave_the_tallies_of_others(room: Room) -> None:
    counting = make_tallier(room)
    happen(room, *TWO_PEOPLE, thumb("r2", rater="rater-1"))
    for _ in range(3):
        counting.turn()
    assert counted(room)[OTHER].votes == 2
    room.erase("rater-1")
    room.consume()
    counting.turn()
    assert counted(room).keys() == {OTHER}
    assert counted(room)[OTHER].votes == 1


def test_a_tally_that_was_stored_while_its_person_was_erased_goes_a_little_later(room: Room) -> None:
    """Another process had read the answers before, and stores what it counted after."""
    happen(room, *TWO_PEOPLE)
    late = told(room)[ONE]
    room.erase("rater-1")
    room.consume()
    with room.database.transaction() as session:
        erasing.tallies.replace(session, "default", late.rollout_id, ["rater-1"], [late])
    erasing.blank_again(room.database, room.artifacts, now() - timedelta(hours=1))
    assert counted(room).keys() == {OTHER}


def test_erasing_is_done_again_without_counting_anybody_again(room: Room) -> None:
    counting = make_tallier(room)
    happen(room, *TWO_PEOPLE, answered("r3", at=200))
    room.erase("rater-1", moment(100))
    room.consume()
    for _ in range(3):
        counting.turn()
    erasing.blank_again(room.database, room.artifacts, now() - timedelta(hours=1))
    assert counting.turn() == 0
    assert counted(room)[ONE].answers == 1


@pytest.mark.parametrize("what", ["answer", "vote"])
def test_what_may_not_be_kept_any_longer_is_counted_no_more(room: Room, what: str) -> None:
    counting, kept = make_tallier(room), Consent(train=True, retain_until=now() + timedelta(hours=1))
    ends = {what: {"consent": kept}}
    happen(room, answered("r1", **ends.get("answer", {})), answered("r2", at=1), thumb("r1", **ends.get("vote", {})))
    for _ in range(3):
        counting.turn()
    assert (counted(room)[ONE].answers, counted(room)[ONE].votes) == (2, 1)
    with room.database.engine.begin() as connection:
        for table in ("inferences", "vote_events"):
            connection.exec_driver_sql(f"UPDATE {table} SET retain_until = '2026-01-01 00:00:00.000000'"
                                       " WHERE retain_until IS NOT NULL")  # fmt: skip
    erasing.purge(room.database, room.artifacts)
    counting.turn()
    assert (counted(room)[ONE].answers, counted(room)[ONE].votes) == (1 if what == "answer" else 2, 0)
