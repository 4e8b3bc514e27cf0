"""Feedback on whole conversations: how it is spread over turns, and what a conversation scores."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.training import make_base, make_message, make_prompt
from trainer.conversations import conversation_scores, credited, shares, turns_of
from trainer.data import Unpaired
from trainer.model import attach_adapter
from trainer.rewarding import Head, RewardModel

ASKED, THEN = ({"role": "user", "content": text} for text in ("Hi", "And then?"))


def make_thumb(turn: int = 0, turns: int = 0, weight: float = 1.0) -> Unpaired:
    return Unpaired(make_prompt(), make_message("a list"), True, weight, turn=turn, turns=turns)


def test_the_share_of_a_turn_falls_by_the_discount_with_each_turn_after_it() -> None:
    assert shares(3, 0.5) == pytest.approx([1 / 7, 2 / 7, 4 / 7], rel=1e-9)


def test_without_a_discount_all_turns_count_the_same() -> None:
    assert shares(4, 1.0) == pytest.approx([0.25] * 4, rel=1e-9)


@settings(deadline=None)
@given(turns=st.integers(1, 60), discount=st.floats(0.01, 1.0))
def test_shares_sum_to_one_and_never_fall_towards_the_end(turns: int, discount: float) -> None:
    found = shares(turns, discount)
    assert sum(found) == pytest.approx(1.0, rel=1e-9)
    assert found == sorted(found)


def test_no_turns_have_no_shares() -> None:
    assert shares(0, 0.9) == []


def test_a_conversation_s_verdict_weighs_over_all_its_turns_what_one_verdict_weighs() -> None:
    found = credited([make_thumb(turn, 3, weight=2.0) for turn in (1, 2, 3)], 0.5)
    assert [row.weight for row in found] == pytest.approx([2 / 7, 4 / 7, 8 / 7])


def test_feedback_on_one_answer_stays_with_its_turn() -> None:
    assert credited([make_thumb(weight=0.7)], 0.5) == [make_thumb(weight=0.7)]


def test_what_a_missing_turn_earned_goes_to_nobody() -> None:
    assert [row.weight for row in credited([make_thumb(1, 2), make_thumb(2, 2)], 1.0)] == pytest.approx([0.5, 0.5])
    assert [row.weight for row in credited([make_thumb(2, 2)], 1.0)] == pytest.approx([0.5])


def test_each_answer_is_a_turn_after_all_that_was_said_before() -> None:
    messages = [ASKED, make_message("a"), THEN, make_message("b")]
    assert turns_of(messages) == [(messages[:1], messages[1]), (messages[:3], messages[3])]


def test_an_answer_to_nothing_is_no_turn() -> None:
    assert turns_of([make_message("Hello!"), ASKED]) == []


def test_a_conversation_scores_its_turns_scores_at_their_shares(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    attach_adapter(base, "reward", rank=4, alpha=8, seed=0)
    model = RewardModel(base, "reward", Head(base.hidden_size, features=False))
    model.head.hidden.weight.data.fill_(0.5)
    messages = [ASKED, make_message("a list"), THEN, make_message("the cosine of x")]
    first, second = model.score([(messages[:1], "a list"), (messages[:3], "the cosine of x")])
    found = conversation_scores(model, [turns_of(messages), turns_of(messages[:2]), []], 0.5)
    assert found == pytest.approx([first / 3 + 2 * second / 3, first, 0.0], rel=1e-4)
