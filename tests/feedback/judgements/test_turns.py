"""A verdict on a whole conversation is joined to its turns, and leaves alone those that were rated by themselves."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from feedback.judgements.exchange import Answers, Turn, make_exchange
from feedback.judgements.join import join
from feedback.judgements.judgement import Judgement, Verdict
from feedback.judgements.turns import TURNS_MOST
from feedback.votes import Answered, Judge, Vote
from infra.contracts.events import Source
from tests.support.conversations import about, make_turn
from tests.support.events import moment
from tests.support.feedback import ALIAS, make_answered, make_vote


def answered(count: int = 3, **overrides: Any) -> list[Answered]:
    bodies = [make_turn("s1", turn, **overrides) for turn in range(1, count + 1)]
    return [
        make_answered(body, session_id="s1", occurred_at=moment(60 * at)) for at, body in enumerate(bodies, start=1)
    ]


def vote(**envelope: Any) -> Vote:
    return make_vote(about(), **{"occurred_at": moment(3600), **envelope})


def joined(
    cast: Vote, events: Sequence[Answered], judged: dict[str, set[Judge]] | None = None, missing: Sequence[str] = ()
) -> tuple[list[Judgement], Counter[str]]:
    """`judged` says who has rated which response by itself; of `missing` ones there is no body."""
    known = {event.body.response_id: make_exchange(event) for event in events if event.body.response_id not in missing}
    of = {
        name: Turn(name, event.body.alias, event.order, frozenset((judged or {}).get(name, ())))
        for event in events
        for name in [event.body.response_id]
    }
    return join([cast], Answers(known, {"s1": list(of.values())}), ALIAS)


def places(judgements: Sequence[Judgement]) -> list[tuple[str, int, int]]:
    return [
        (judgement.answers[0].ref, judgement.place.turn, judgement.place.turns)
        for judgement in judgements
        if judgement.place
    ]


def test_each_answer_of_a_conversation_is_a_turn_in_the_order_of_time() -> None:
    found, lost = joined(vote(), answered(3))
    assert places(found) == [("s1-1#0", 1, 3), ("s1-2#0", 2, 3), ("s1-3#0", 3, 3)]
    assert {judgement.verdict for judgement in found} == {Verdict.GOOD}
    assert not lost


def test_answers_that_were_given_after_the_vote_are_not_part_of_what_it_is_about() -> None:
    found, _ = joined(vote(occurred_at=moment(150)), answered(3))
    assert places(found) == [("s1-1#0", 1, 2), ("s1-2#0", 2, 2)]


def test_a_turn_that_the_rater_rated_by_itself_keeps_that_rating_and_its_part_goes_to_no_other_turn() -> None:
    found, lost = joined(vote(), answered(3), {"s1-2": {("rater-1", False)}})
    assert places(found) == [("s1-1#0", 1, 3), ("s1-3#0", 3, 3)]
    assert lost == {"judged_by_itself": 1}


@pytest.mark.parametrize("judge", [("rater-2", False), ("rater-1", True), (None, False)])
def test_what_others_rated_by_itself_is_a_turn_like_the_rest(judge: Judge) -> None:
    found, lost = joined(vote(), answered(2), {"s1-1": {judge}})
    assert (len(found), lost) == (2, {})


def test_a_models_verdict_yields_to_the_models_own_rating_only() -> None:
    found, _ = joined(vote(source=Source.AI), answered(2), {"s1-1": {("rater-1", True)}, "s1-2": {("rater-1", False)}})
    assert places(found) == [("s1-2#0", 2, 2)]


def test_a_turn_whose_text_cannot_be_had_is_counted_and_stays_a_turn() -> None:
    found, lost = joined(vote(), answered(2), missing=["s1-1"])
    assert places(found) == [("s1-2#0", 2, 2)]
    assert lost == {"inference_missing": 1}


def test_a_conversation_of_which_nothing_is_known_is_missing() -> None:
    assert joined(vote(), []) == ([], {"inference_missing": 1})


def test_turns_of_another_alias_are_none_of_its_business() -> None:
    other = [make_answered(make_turn("s1", 4, alias="other"), session_id="s1", occurred_at=moment(30))]
    found, lost = joined(vote(), [*other, *answered(1)])
    assert (places(found), lost) == ([("s1-1#0", 1, 1)], {})
    assert joined(vote(), other) == ([], {})


def test_a_check_question_is_no_turn() -> None:
    found, _ = joined(vote(), [*answered(1), make_answered(make_turn("s1", 2, check="better"), session_id="s1")])
    assert places(found) == [("s1-1#0", 1, 1)]


def test_a_session_that_never_ends_is_no_conversation() -> None:
    assert len(joined(vote(occurred_at=moment(10**6)), answered(TURNS_MOST))[0]) == TURNS_MOST
    assert joined(vote(occurred_at=moment(10**6)), answered(TURNS_MOST + 1)) == ([], {"too_many_turns": 1})


def test_a_verdict_that_was_taken_back_makes_nothing() -> None:
    assert joined(make_vote(about(value=None)), answered(2)) == ([], {"retracted": 1})


def test_judging_a_conversation_takes_the_time_to_read_its_last_answer() -> None:
    found, _ = joined(vote(), answered(2))
    assert [judgement.words for judgement in found] == [4, 4]


def test_judgements_of_one_vote_are_told_apart_by_their_turns() -> None:
    found, _ = joined(vote(), answered(3))
    assert len({judgement.key for judgement in found}) == 3
    assert len({judgement.event_id for judgement in found}) == 1
