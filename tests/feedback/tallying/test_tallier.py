"""What people do in a rollout ends in the registry's tallies: once, afresh with all news, and right after anything."""

import threading
from datetime import timedelta
from typing import Any

import pytest

from feedback.errors import Stopping
from feedback.tallying import tallier
from infra.clock import now
from infra.contracts.events import InferenceStatus, Source
from infra.registry import tallies
from infra.registry.tallies import TallyArm
from tests.support.events import make_choice, make_comparison, make_feedback, moment
from tests.support.feedback import Event, Room
from tests.support.trials import (
    CANARY,
    HALF,
    ROLLOUT,
    SHADOW,
    SHARE,
    answered,
    arm_choice,
    counted,
    end_rollout,
    happen,
    make_tallier,
    put_rollout,
    thumb,
    told,
)

ONE = ("rater-1", CANARY, "champion")
NEW = ("rater-1", CANARY, "challenger")
PAIR = ("rater-1", CANARY, "pair")


def test_answers_and_thumbs_are_summed_for_each_rater(room: Room) -> None:
    found = told(
        room, answered("r1"), answered("r2", at=60), thumb("r1"), thumb("r2", False, at=70), thumb("r2", at=80)
    )
    tally = found[ONE]
    assert (tally.rollout_id, tally.step, tally.arm, tally.unit) == (ROLLOUT, CANARY, TallyArm.CHAMPION, "rater-1")
    assert (tally.answers, tally.rateable, tally.votes, tally.ups) == (2, 2, 2, 2)
    assert (tally.tokens, tally.seconds, tally.failed, tally.refusals) == (6, 2.0, 0, 0)
    assert (tally.first_at, tally.voted_at) == (moment(), moment(10))
    assert (tally.segment, tally.weight) == ("", 1.0)


def test_the_share_is_the_challengers_whichever_arm_answered(room: Room) -> None:
    found = told(room, answered("r1"), answered("r2", "challenger", rater="rater-2"))
    assert found[ONE].share == found["rater-2", CANARY, "challenger"].share == SHARE


def test_who_moves_to_the_challenger_in_a_later_step_has_a_tally_in_each(room: Room) -> None:
    found = told(room, answered("r1"), thumb("r1"), answered("r2", "challenger", step=HALF), thumb("r2", False))
    assert found.keys() == {ONE, ("rater-1", HALF, "challenger")}
    assert (found[ONE].votes, found[ONE].ups) == (1, 1)
    assert (found["rater-1", HALF, "challenger"].votes, found["rater-1", HALF, "challenger"].ups) == (1, 0)


def test_a_vote_that_came_before_its_answer_counts(room: Room) -> None:
    counting = make_tallier(room)
    happen(room, thumb("r1"))
    counting.turn()
    assert counted(room) == {}
    happen(room, answered("r1"))
    counting.turn()
    assert counted(room)[ONE].ups == 1


def test_a_vote_after_its_answer_was_counted_is_added(room: Room) -> None:
    counting = make_tallier(room)
    happen(room, answered("r1"))
    counting.turn()
    assert counted(room)[ONE].votes == 0
    happen(room, thumb("r1"))
    assert counting.turn() > 0
    assert (counted(room)[ONE].votes, counted(room)[ONE].ups) == (1, 1)


def test_a_change_of_mind_is_one_vote(room: Room) -> None:
    counting = make_tallier(room)
    happen(room, answered("r1"), thumb("r1"))
    counting.turn()
    happen(room, thumb("r1", False, at=20))
    counting.turn()
    assert (counted(room)[ONE].votes, counted(room)[ONE].ups) == (1, 0)


def test_a_vote_that_is_taken_back_vanishes(room: Room) -> None:
    counting = make_tallier(room)
    happen(room, answered("r1"), thumb("r1"))
    counting.turn()
    happen(room, thumb("r1", None, at=20))
    counting.turn()
    tally = counted(room)[ONE]
    assert (tally.answers, tally.votes, tally.ups, tally.voted_at) == (1, 0, 0, None)


@pytest.mark.parametrize(("stars", "votes", "ups"), [(5, 1, 1), (4, 1, 1), (3, 0, 0), (2, 1, 0), (1, 1, 0)])
def test_stars_count_as_datasets_read_them(room: Room, stars: int, votes: int, ups: int) -> None:
    rating = Event(make_feedback("r1", kind="rating", name="rating", value=stars), "rating")
    tally = told(room, answered("r1"), rating)[ONE]
    assert (tally.votes, tally.ups) == (votes, ups)


def test_the_votes_of_others_belong_to_who_was_answered(room: Room) -> None:
    found = told(room, answered("r1"), thumb("r1"), thumb("r1", False, rater="rater-2"))
    assert found.keys() == {ONE}
    assert (found[ONE].votes, found[ONE].ups) == (2, 1)


@pytest.mark.parametrize("source", [Source.AI, Source.IMPLICIT])
def test_only_people_vote(room: Room, source: Source) -> None:
    assert told(room, answered("r1"), thumb("r1", source=source))[ONE].votes == 0


@pytest.mark.parametrize("kind", ["comment", "correction", "custom"])
def test_what_is_no_thumb_is_no_vote(room: Room, kind: str) -> None:
    said = Event(make_feedback("r1", kind=kind, name=kind, value="Cosine."), "said")
    assert told(room, answered("r1"), said)[ONE].votes == 0


def test_a_thumb_on_a_choice_that_there_is_not_is_no_vote(room: Room) -> None:
    assert told(room, answered("r1"), Event(make_feedback("r1", index=7), "thumb"))[ONE].votes == 0


@pytest.mark.parametrize("arm", ["pinned", "opted_out", "query"])
def test_answers_that_were_not_drawn_are_not_counted(room: Room, arm: str) -> None:
    assert told(room, answered("r1", arm), thumb("r1")) == {}


@pytest.mark.parametrize(
    "body",
    [{"status": InferenceStatus.CANCELLED}, {"check": "better"}, {"rollout_id": None}, {"rollout_id": "another"}],
    ids=str,
)
def test_what_is_no_evidence_of_this_rollout_is_not_counted(room: Room, body: dict[str, Any]) -> None:
    assert told(room, answered("r1", body=body), thumb("r1")) == {}


@pytest.mark.parametrize("step", [None, 3, -1])
def test_an_answer_of_no_step_is_not_counted(room: Room, step: int | None) -> None:
    assert told(room, answered("r1", step=step)) == {}


def test_a_failed_answer_counts_as_failed_and_could_not_be_rated(room: Room) -> None:
    tally = told(room, answered("r1", body={"status": InferenceStatus.FAILED}), answered("r2", at=1))[ONE]
    assert (tally.answers, tally.failed, tally.rateable) == (2, 1, 1)


def test_where_no_rating_was_offered_none_was_to_be_had(room: Room) -> None:
    tally = told(room, answered("r1", body={"rateable": False}))[ONE]
    assert (tally.answers, tally.rateable) == (1, 0)


def test_refusals_are_told_by_the_text(room: Room) -> None:
    refusal = {"choices": [arm_choice("challenger", "I'm sorry, but I can't help with that.")]}
    assert told(room, answered("r1", "challenger", body=refusal), answered("r2", "challenger"))[NEW].refusals == 1


def test_tokens_of_an_answer_without_content_are_as_the_engine_counted_them(room: Room) -> None:
    empty = make_choice(message=None, token_ids=[], logprobs=[], arm="challenger", arm_propensity=SHARE)
    body = {"stored": False, "choices": [empty], "usage": {"completion_tokens": 17}}
    assert told(room, answered("r1", "challenger", body=body))[NEW].tokens == 17


def test_who_names_nobody_is_a_session_else_an_answer(room: Room) -> None:
    nobody: dict[str, Any] = {"rater": None}
    found = told(
        room,
        answered("r1", session_id="s1", **nobody), answered("r2", session_id="s1", **nobody), answered("r3", **nobody),
        thumb("r2", rater="rater-9"), thumb("r3", False, **nobody),
    )  # fmt: skip
    assert found.keys() == {("s1", CANARY, "champion"), ("r3", CANARY, "champion")}
    assert (found["s1", CANARY, "champion"].answers, found["s1", CANARY, "champion"].ups) == (2, 1)
    assert (found["r3", CANARY, "champion"].votes, found["r3", CANARY, "champion"].ups) == (1, 0)


@pytest.mark.parametrize("arms", [("champion", "challenger"), ("challenger", "champion")])
@pytest.mark.parametrize(("choice", "challenger_first", "last"), [("a", 1, 0), ("b", 0, 1)])
def test_a_choice_between_the_arms_is_won_by_a_side_wherever_it_stood(
    room: Room, arms: tuple[str, str], choice: str, challenger_first: int, last: int
) -> None:
    """Side by side, as a person sees them: the first choice is a, and then the other way round."""
    won = challenger_first if arms[0] == "challenger" else last
    compared = Event(make_comparison("r1#0", "r1#1", choice), "compared")
    turned = Event(make_comparison("r2#1", "r2#0", choice), "turned")
    tally = told(room, answered("r1", arms), compared)[PAIR]
    assert (tally.answers, tally.choices, tally.wins, tally.share) == (1, 1, won, SHARE)
    assert told(room, answered("r2", arms), turned)[PAIR].wins == 1  # won once, and lost once


@pytest.mark.parametrize("choice", ["tie", "both_bad"])
def test_neither_side_is_half_a_win(room: Room, choice: str) -> None:
    compared = Event(make_comparison("r1#0", "r1#1", choice), "compared")
    tally = told(room, answered("r1", ("champion", "challenger")), compared)[PAIR]
    assert (tally.choices, tally.wins, tally.votes, tally.ups) == (1, 0.5, 0, 0)


def test_thumbs_on_a_side_of_a_pair_are_no_votes_on_an_arm(room: Room) -> None:
    found = told(room, answered("r1", ("champion", "challenger")), thumb("r1"))
    assert found.keys() == {PAIR}
    assert (found[PAIR].votes, found[PAIR].ups, found[PAIR].choices) == (0, 0, 0)


def test_a_comparison_of_two_answers_of_one_arm_is_no_choice_between_arms(room: Room) -> None:
    compared = Event(make_comparison("r1#0", "r1#1"), "compared")
    others = Event(make_comparison("r2", "r3"), "others")
    found = told(
        room, answered("r1", ("champion", "champion")), answered("r2"), answered("r3", "challenger"), compared, others
    )
    assert all((tally.choices, tally.votes) == (0, 0) for tally in found.values())


def test_a_shadow_answer_is_only_measured(room: Room) -> None:
    body = {"shadow_of": "r1", "choices": [arm_choice("shadow", "I cannot say.")]}
    found = told(room, answered("r1", step=SHADOW), answered("r2", step=SHADOW, body=body), thumb("r2"), thumb("r1"))
    shadow = found["rater-1", SHADOW, "shadow"]
    assert (shadow.answers, shadow.failed, shadow.tokens, shadow.seconds, shadow.refusals) == (1, 0, 3, 1.0, 1)
    assert (shadow.rateable, shadow.votes, shadow.ups, shadow.share) == (0, 0, 0, 0.2)
    assert found["rater-1", SHADOW, "champion"].ups == 1


def test_a_shadow_answer_that_failed_before_its_first_word_counts_as_failed(room: Room) -> None:
    body = {"shadow_of": "r1", "choices": [], "status": InferenceStatus.FAILED}
    assert told(room, answered("r2", step=SHADOW, body=body))["rater-1", SHADOW, "shadow"].failed == 1


def test_the_segment_is_that_of_the_first_answer(room: Room) -> None:
    late, first = answered("r2", at=60, segment="fr"), answered("r1", segment="de")
    assert told(room, late, first)[ONE].segment == "de"


def test_a_process_that_starts_anew_comes_to_the_same(room: Room) -> None:
    events = [answered("r1"), answered("r2", "challenger", rater="rater-2"), thumb("r1"), thumb("r2", False)]
    before = told(room, *events)
    assert len(before) == 2
    assert told(room) == before


def test_nothing_new_costs_no_count(room: Room) -> None:
    counting = make_tallier(room)
    happen(room, answered("r1"), thumb("r1"))
    assert [counting.turn() for _ in range(4)] == [1, 1, 0, 0]  # once more: it looks back a little


def test_only_who_has_news_is_counted_again(room: Room) -> None:
    counting = make_tallier(room)
    happen(room, *(answered(f"r{at}", rater=f"rater-{at}") for at in range(20)))
    assert [counting.turn() for _ in range(3)] == [20, 20, 0]
    happen(room, thumb("r7", rater="rater-3"), answered("r20", rater="rater-9", at=5))
    assert counting.turn() == 2
    assert counted(room)["rater-7", CANARY, "champion"].votes == 1
    assert counted(room)["rater-9", CANARY, "champion"].answers == 2


def test_an_answer_that_another_process_stored_late_is_found(room: Room) -> None:
    """Its transaction began half a minute ago: so long ago it says that it was stored."""
    counting = make_tallier(room)
    happen(room, answered("r1"))
    assert [counting.turn() for _ in range(3)] == [1, 1, 0]
    happen(room, answered("r2", rater="rater-2"))
    with room.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE inferences SET received_at = '{}' WHERE response_id = 'r2'".format(
            (now() - timedelta(seconds=30)).strftime("%Y-%m-%d %H:%M:%S.%f")))  # fmt: skip
    assert counting.turn() == 1


def test_one_process_at_a_time_counts_and_the_next_takes_over(room: Room) -> None:
    first, second = make_tallier(room, lease_ttl_s=0.5), make_tallier(room, lease_ttl_s=0.5)
    happen(room, answered("r1"))
    assert (first.turn(), second.turn()) == (1, 0)
    happen(room, thumb("r1"))
    late = threading.Event()
    while not late.wait(0.05) and not second.turn():
        pass
    assert counted(room)[ONE].ups == 1


def test_who_lost_the_lease_stores_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, quick = make_tallier(room, lease_ttl_s=0.001), make_tallier(room)
    happen(room, answered("r1"))
    original = tallier.count

    def count_late(*arguments: Any) -> Any:
        monkeypatch.setattr(tallier, "count", original)
        happen(room, thumb("r1"))
        assert quick.turn() == 1
        return original(*arguments)[:0]

    monkeypatch.setattr(tallier, "count", count_late)
    assert slow.turn() == 0
    assert counted(room)[ONE].ups == 1


def test_many_are_counted_piece_by_piece(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallier, "PIECE", 3)
    assert len(told(room, *(answered(f"r{at}", rater=f"rater-{at}") for at in range(10)))) == 10


def test_a_process_that_is_asked_to_end_does_not_finish_counting(room: Room) -> None:
    counting = make_tallier(room)
    happen(room, answered("r1"))
    counting.stop.set()
    with pytest.raises(Stopping):
        counting.turn()
    assert counted(room) == {}


def test_what_could_not_be_stored_is_counted_in_the_next_turn(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = make_tallier(room)
    happen(room, answered("r1"))
    counting.turn()
    happen(room, thumb("r1"))
    with monkeypatch.context() as patched:
        patched.setattr(tallies, "replace", _away)
        with pytest.raises(ConnectionError):
            counting.turn()
    assert counted(room)[ONE].votes == 0
    counting.turn()
    assert counted(room)[ONE].votes == 1


def _away(*_: object) -> None:
    raise ConnectionError("the database is away")


def test_a_rollout_that_is_over_is_not_counted_any_more(room: Room) -> None:
    counting = make_tallier(room)
    happen(room, answered("r1"))
    counting.turn()
    end_rollout(room, moment())
    happen(room, thumb("r1"))
    assert counting.turn() == 0
    assert counted(room)[ONE].votes == 0


def test_a_rollout_without_steps_is_not_counted(room: Room) -> None:
    put_rollout(room, steps=[])
    assert told(room, answered("r1")) == {}


def test_two_rollouts_are_counted_apart(room: Room) -> None:
    put_rollout(room, rollout_id="rollout-2", alias="other")
    happen(room, answered("r1"), answered("r2", body={"rollout_id": "rollout-2"}))
    assert make_tallier(room).turn() == 2
    assert counted(room)[ONE].answers == 1


def test_a_tenant_counts_its_own_answers_only(room: Room) -> None:
    assert told(room, answered("r1"), answered("r2", tenant="other"), thumb("r2", tenant="other")).keys() == {ONE}
    with room.database.reading() as session:
        assert tallies.of_rollout(session, "other", ROLLOUT) == []
