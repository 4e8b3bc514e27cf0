"""Mirrored answers are judged once, whatever order they came in and whoever is killed, and the tallies say so."""

import threading
from typing import Any

import pytest
from sqlalchemy import update

from feedback.errors import NotScored, Stopping
from feedback.intake.expiry import drop_older
from feedback.rights.portrait import Portrait
from infra.clock import now
from infra.contracts.events import Consent
from infra.database.tables import RolloutRow
from infra.registry import leases
from infra.registry.tallies import Tally
from tests.support.events import TENANT, moment
from tests.support.feedback import Room
from tests.support.mirroring import (
    JUDGE,
    LongerIsBetter,
    both,
    judged,
    make_shadow_judge,
    mirrored,
    outcomes,
    put_judge,
    shown,
    verdicts,
)
from tests.support.search import search
from tests.support.trials import SHADOW, counted, end_rollout, happen, make_tallier

SECRET = "Mia keeps bees"


def tallied(room: Room, rater: str = "rater-1") -> Tally:
    """As a process counts that has just started."""
    make_tallier(room, holder="one", lease_ttl_s=0.001).turn()
    return counted(room)[rater, SHADOW, "shadow"]


def lent(room: Room) -> list[str]:
    return room.artifacts.names("lent")


def failing(kind: str) -> Any:
    def score(*_: object) -> list[float]:
        raise NotScored(kind)

    return score


def test_what_the_judge_prefers_is_counted_and_is_nobodys_vote(room: Room) -> None:
    events = [*both("r1"), *both("r2", "Much longer than the other.", "Short."), *both("r3", "Same.", "Same.")]
    assert judged(room, *events) == 3
    assert verdicts(room) == {"r1": 1.0, "r2": 0.0, "r3": 0.5}
    tally = tallied(room)
    assert (tally.answers, tally.judgeable, tally.judged, tally.judge_wins) == (3, 3, 3, 1.5)
    assert (tally.votes, tally.choices, tally.wins, tally.voted_at) == (0, 0, 0.0, None)
    assert outcomes(room) == {"scored": 1.0}


def test_on_postgresql_it_is_the_same(full_room: Room) -> None:
    assert judged(full_room, *both("r1"), mirrored("r2")) == 1
    assert judged(full_room, shown("r2"), *both("r3", consent=Consent())) == 1
    tally = tallied(full_room)
    assert (tally.judgeable, tally.judged, tally.judge_wins) == (2, 2, 2.0)
    full_room.erase("rater-1")
    full_room.consume()
    assert verdicts(full_room) == {}


def test_a_tally_that_was_counted_before_is_counted_again_with_the_verdict(room: Room) -> None:
    counting = make_tallier(room)
    happen(room, *both("r1"))
    for _ in range(3):
        counting.turn()
    assert (counted(room)["rater-1", SHADOW, "shadow"].judged, counting.turn()) == (0, 0)
    make_shadow_judge(room).turn()
    assert counting.turn() == 1
    assert counted(room)["rater-1", SHADOW, "shadow"].judged == 1


@pytest.mark.parametrize("order", [1, -1])
def test_whichever_of_both_answers_comes_first_they_are_judged_once_both_are_there(room: Room, order: int) -> None:
    first, second = both("r1")[::order]
    assert judged(room, first) == 0
    assert judged(room, second) == 1
    assert verdicts(room) == {"r1": 1.0}


def test_a_process_that_starts_anew_judges_only_what_is_left(room: Room) -> None:
    judged(room, *both("r1"))
    happen(room, *both("r2", "a", "b"))
    reader = LongerIsBetter(room.artifacts)
    assert make_shadow_judge(room, reader).turn() == 1
    assert make_shadow_judge(room, reader).turn() == 0
    assert reader.asked == [["a", "b"]]
    assert tallied(room).judged == 2


def test_what_comes_in_after_the_shadow_step_is_over_is_still_judged(room: Room) -> None:
    with room.database.transaction() as session:
        session.execute(update(RolloutRow).values(step=2))
    assert judged(room, *both("r1")) == 1


def test_a_rollout_that_is_over_has_nothing_judged(room: Room) -> None:
    end_rollout(room, now())
    assert judged(room, *both("r1")) == 0


@pytest.mark.parametrize(
    "header", [{"consent": Consent()}, {"body": {"stored": False}}, {"consent": Consent(train=False, explicit=True)}]
)
def test_without_content_or_consent_nobody_is_asked(room: Room, header: dict[str, Any]) -> None:
    reader = LongerIsBetter(room.artifacts)
    happen(room, shown("r1", **header), mirrored("r1", **header))
    assert make_shadow_judge(room, reader).turn() == 0
    assert reader.asked == []
    assert (tallied(room).answers, tallied(room).judgeable) == (1, 0)


def test_what_cannot_be_compared_is_remembered_and_not_waited_for(room: Room) -> None:
    tools = {"request": {"messages": [{"role": "user", "content": "Hi"}], "tools": [{"type": "function"}]}}
    assert judged(room, shown("r1", body=tools), mirrored("r1", body=tools)) == 0
    assert verdicts(room) == {"r1": None}
    assert (tallied(room).judgeable, tallied(room).judged) == (0, 0)


def test_without_an_independent_judge_nobody_is_asked(room: Room) -> None:
    with room.database.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM reward_models")
    assert judged(room, *both("r1")) == 0
    put_judge(room.database, share=0.4)
    assert judged(room) == 0, "it kept more raters than the versions did"


@pytest.mark.parametrize("kind", ["broker_away", "timed_out", "failed", "unreadable"])
def test_what_was_not_scored_is_counted_by_kind_and_tried_again(room: Room, kind: str) -> None:
    happen(room, *both("r1", SECRET))
    assert make_shadow_judge(room, failing(kind)).turn() == 0
    assert (verdicts(room), outcomes(room), lent(room)) == ({}, {kind: 1.0}, [])
    assert tallied(room).judged == 0
    assert judged(room) == 1


def test_the_text_is_lent_while_it_is_read_and_gone_afterwards(room: Room) -> None:
    happen(room, *both("r1", SECRET))
    found: list[set[str]] = []
    reader = LongerIsBetter(room.artifacts, before=lambda: found.append(search(room, [SECRET])[SECRET]))
    make_shadow_judge(room, reader).turn()
    assert "json" in found[0]
    assert "json" not in search(room, [SECRET])[SECRET]
    assert lent(room) == []


def test_a_process_that_is_asked_to_end_leaves_no_text(room: Room) -> None:
    def score(*_: object) -> list[float]:
        raise Stopping("asked to end")

    happen(room, *both("r1"))
    with pytest.raises(Stopping):
        make_shadow_judge(room, score).turn()
    assert (lent(room), verdicts(room)) == ([], {})


def test_what_a_killed_process_has_left_goes_in_the_first_turn_of_the_next(room: Room) -> None:
    end_rollout(room, now())
    room.artifacts.write("lent/0.json", SECRET.encode())
    room.artifacts.write("lent/0.json.scores.json", b"[1.0]")
    make_shadow_judge(room).turn()
    assert lent(room) == []


def test_an_erasure_while_the_judge_reads_takes_the_text_and_leaves_no_verdict(room: Room) -> None:
    happen(room, *both("r1", SECRET), *both("r2", rater="rater-2"))
    left: list[list[str]] = []

    def erased() -> None:
        room.erase("rater-1")
        room.consume()
        room.eraser().turn()
        left.append(lent(room))

    make_shadow_judge(room, LongerIsBetter(room.artifacts, before=erased)).turn()
    assert left == [[]]
    assert verdicts(room) == {"r2": 1.0}
    assert search(room, [SECRET]) == {SECRET: set()}


def test_who_is_erased_before_the_judge_is_asked_is_not_shown_to_it(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    happen(room, *both("r1", SECRET), *both("r2", rater="rater-2"))
    reader = LongerIsBetter(room.artifacts)
    judge = make_shadow_judge(room, reader)
    gathered = judge.waiting.batch

    def erased(*arguments: Any) -> Any:
        found = gathered(*arguments)
        room.erase("rater-1")
        room.consume()
        return found

    monkeypatch.setattr(type(judge.waiting), "batch", lambda _, *arguments: erased(*arguments))
    assert judge.turn() == 0
    assert (reader.asked, outcomes(room), lent(room)) == ([], {"erased": 1.0}, [])
    monkeypatch.undo()
    assert judge.turn() == 1
    assert verdicts(room) == {"r2": 1.0}


def test_an_export_has_the_verdicts_on_its_persons_answers_alone(room: Room) -> None:
    judged(room, *both("r1"), *both("r2", rater="rater-2"))
    lines = Portrait(room.database, room.sealer, room.artifacts, TENANT, "rater-1").lines()
    (line,) = [one for one in lines if one["kind"] == "shadow_verdict"]
    assert (line["response_id"], line["judge"], line["win"]) == ("r1-shadow", JUDGE, 1.0)


def test_the_verdicts_on_who_is_erased_go(room: Room) -> None:
    judged(room, *both("r1"), *both("r2", rater="rater-2"))
    room.erase("rater-1")
    room.consume()
    assert verdicts(room) == {"r2": 1.0}


def test_one_process_at_a_time_asks(room: Room) -> None:
    happen(room, *both("r1"))
    second = LongerIsBetter(room.artifacts)
    first = LongerIsBetter(room.artifacts, before=lambda: assert_idle(make_shadow_judge(room, second)))
    assert make_shadow_judge(room, first).turn() == 1
    assert second.asked == []


def assert_idle(judge: Any) -> None:
    assert judge.turn() == 0


def test_who_lost_the_lease_stores_nothing(room: Room) -> None:
    happen(room, *both("r1"))

    def taken() -> None:
        with room.database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE leases SET expires_at = '2026-01-01 00:00:00.000000'")
        with room.database.transaction() as session:
            assert leases.acquire(session, "shadow-judge", "another", 60.0) is not None

    assert make_shadow_judge(room, LongerIsBetter(room.artifacts, before=taken)).turn() == 0
    assert verdicts(room) == {}


def test_tallying_goes_on_while_the_judge_reads(room: Room) -> None:
    happen(room, *both("r1"))
    reading, done = threading.Event(), threading.Event()

    def slow() -> None:
        reading.set()
        assert done.wait(60)

    thread = threading.Thread(target=make_shadow_judge(room, LongerIsBetter(room.artifacts, before=slow)).turn)
    thread.start()
    assert reading.wait(60)
    happen(room, *both("r2", rater="rater-2"))
    assert tallied(room, "rater-2").answers == 1
    done.set()
    thread.join()
    assert verdicts(room) == {"r1": 1.0}


def test_many_are_judged_batch_by_batch(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback.shadows.judge.BATCH", 3)
    monkeypatch.setattr("feedback.shadows.waiting.PIECE", 2)
    happen(room, *(event for number in range(7) for event in both(f"r{number}")))
    assert [make_shadow_judge(room).turn() for _ in range(4)] == [4, 3, 0, 0]


def test_one_conversation_that_breaks_the_judge_keeps_no_other_from_being_judged(room: Room) -> None:
    happen(
        room, *(event for number in range(6) for event in both(f"r{number}", "Poison." if number == 0 else "Short."))
    )
    reader = LongerIsBetter(room.artifacts)

    def score(judge: str, path: str, size: int) -> list[float]:
        scores = reader(judge, path, size)
        if "Poison." in reader.asked[-1]:
            raise NotScored("failed")
        return scores

    judge = make_shadow_judge(room, score)
    assert [judge.turn() for _ in range(5)] == [0, 0, 0, 1, 4]
    assert [len(texts) // 2 for texts in reader.asked] == [6, 3, 1, 1, 4]
    assert verdicts(room).keys() == {f"r{number}" for number in range(1, 6)}


def test_an_answer_older_than_is_kept_takes_its_verdict_along(room: Room) -> None:
    judged(room, *both("r1"), *both("r2", at=100))
    with room.database.transaction() as session:
        drop_older(session, moment(50))
    assert verdicts(room) == {"r2": 1.0}
