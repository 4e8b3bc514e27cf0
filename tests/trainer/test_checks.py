"""Each kind of degenerate data is found, told in figures, and ordinary data is left alone."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.contracts.manifests import Interval
from infra.sizes import Size
from tests.support.training import make_message, make_pair, make_prompt
from trainer.checks import (
    check_accuracy,
    check_demonstrations,
    check_lengths,
    check_number,
    check_pairs,
    check_prompts,
    check_room,
    check_size,
    check_thumbs,
    effective,
)
from trainer.data import Demonstration, Preference, Tie, Unpaired
from trainer.findings import Finding, Kind, Severity

REFUSE, WARN = Severity.REFUSE, Severity.WARN
WEIGHTS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20)


def make_pairs(count: int = 40, **overrides: Any) -> list[Preference]:
    """Ordinary ones: as many prompts as pairs, ten raters."""
    return [
        make_pair(f"good {number}", **{"prompt": asked(number), "rater": f"rater-{number % 10}", **overrides})
        for number in range(count)
    ]


def make_thumbs(count: int = 40, **overrides: Any) -> list[Unpaired]:
    return [
        Unpaired(
            **{
                "prompt": asked(number),
                "completion": make_message("a list"),
                "label": number % 2 == 0,
                "rater": f"rater-{number % 10}",
                **overrides,
            }
        )
        for number in range(count)
    ]


def asked(number: int) -> Any:
    return make_prompt(f"What does f{number} do?")


def make_ties(count: int) -> list[Tie]:
    return [Tie(asked(number), make_message("a"), make_message("b")) for number in range(count)]


def swapped(pair: Preference, rater: str) -> Preference:
    return replace(pair, chosen=pair.rejected, rejected=pair.chosen, rater=rater)


def found(findings: Sequence[Finding]) -> dict[Kind, Severity]:
    return {finding.kind: finding.severity for finding in findings}


def only(findings: Sequence[Finding], kind: Kind) -> Finding:
    return next(finding for finding in findings if finding.kind is kind)


def test_ordinary_rows_raise_no_doubts() -> None:
    assert check_pairs(make_pairs(), make_ties(20)) == []
    assert check_thumbs(make_thumbs()) == []


def test_rows_that_name_no_rater_are_nobody_s_in_particular() -> None:
    assert check_pairs(make_pairs(rater="")) == []


def test_one_rater_is_refused() -> None:
    finding = only(check_pairs(make_pairs(rater="mia")), Kind.ONE_RATER)
    assert finding.severity is REFUSE
    assert finding.message.startswith("40 pairs are by 1 raters, by weight as good as 1.0")


def test_a_rater_who_outweighs_all_others_together_is_one_rater() -> None:
    pairs = [*make_pairs(), *make_pairs(rater="mia", weight=20.0)]
    assert found(check_pairs(pairs))[Kind.ONE_RATER] is REFUSE


def test_a_handful_of_raters_is_a_warning() -> None:
    pairs = [make_pair(prompt=asked(number), rater=f"rater-{number % 3}") for number in range(30)]
    assert found(check_pairs(pairs)) == {Kind.FEW_RATERS: WARN}


def test_ties_alone_are_refused_and_more_ties_than_choices_are_a_warning() -> None:
    assert found(check_pairs([], make_ties(50))) == {Kind.ALL_TIES: REFUSE}
    assert found(check_pairs(make_pairs(20), make_ties(21))) == {Kind.MOSTLY_TIES: WARN}


def test_no_rows_are_for_the_methods_to_refuse() -> None:
    assert check_pairs([]) == check_thumbs([]) == check_demonstrations([]) == []


@pytest.mark.parametrize(("liked", "said"), [(True, "what to avoid"), (False, "what to do")])
def test_thumbs_of_one_kind_are_refused(liked: bool, said: str) -> None:
    finding = only(check_thumbs(make_thumbs(label=liked)), Kind.ONE_LABEL)
    assert finding.severity is REFUSE
    assert said in finding.message


def test_thumbs_of_nearly_one_kind_are_a_warning() -> None:
    thumbs = [*make_thumbs(38, label=True), *make_thumbs(2, label=False, completion=make_message("x"))]
    assert found(check_thumbs(thumbs)) == {Kind.LOPSIDED: WARN}


def test_choices_that_cancel_each_other_are_refused() -> None:
    pairs = make_pairs()
    finding = only(check_pairs([*pairs, *(swapped(pair, "max") for pair in pairs)]), Kind.CONTRADICTORY)
    assert finding.severity is REFUSE
    assert finding.message.startswith(
        "opposite votes on the same answers (40 of 40 questions) cancel 100% of all pairs"
    )


def test_coin_flips_on_the_same_questions_are_refused() -> None:
    rng = random.Random(0)
    votes = [
        pair if rng.random() < 0.5 else swapped(pair, f"rater-{number}")
        for pair in make_pairs(100)
        for number in range(6)
    ]
    assert found(check_pairs(votes))[Kind.CONTRADICTORY] is REFUSE


def test_people_who_agree_as_people_do_are_believed() -> None:
    """Two raters each, who say the same three times in four."""
    pairs = make_pairs(100)
    seconds = [swapped(pair, "max") if number % 4 == 0 else pair for number, pair in enumerate(pairs)]
    assert Kind.CONTRADICTORY not in found(check_pairs([*pairs, *seconds]))


def test_more_contradiction_than_people_s_is_a_warning() -> None:
    pairs = make_pairs(100)
    seconds = [swapped(pair, f"max-{number}") if number % 5 < 2 else pair for number, pair in enumerate(pairs)]
    assert found(check_pairs([*pairs, *seconds])) == {Kind.CONTRADICTORY: WARN}


def test_a_few_questions_that_divide_people_are_no_contradiction_of_the_whole() -> None:
    pairs = make_pairs(100)
    assert check_pairs([*pairs, *(swapped(pair, "max") for pair in pairs[:10])]) == []


def test_thumbs_on_one_answer_may_contradict_too() -> None:
    up, down = make_thumbs(label=True), make_thumbs(label=False)
    assert found(check_thumbs([*up, *down])) == {Kind.CONTRADICTORY: REFUSE}


def test_the_same_text_on_both_sides_teaches_nothing() -> None:
    same = [make_pair("a", "a", prompt=asked(number), rater=f"r{number}") for number in range(20)]
    assert found(check_pairs([*make_pairs(21), *same])) == {Kind.SAME_ANSWERS: WARN}
    assert found(check_pairs([*make_pairs(10), *same])) == {Kind.SAME_ANSWERS: REFUSE}


def test_one_prompt_over_and_over_is_refused() -> None:
    pairs = [make_pair(f"good {number}", rater=f"rater-{number}") for number in range(30)]
    finding = only(check_pairs(pairs), Kind.ONE_PROMPT)
    assert finding.severity is REFUSE
    assert "30 rows ask 1 different prompts" in finding.message


def test_few_prompts_are_a_warning() -> None:
    one = check_prompts([asked(number % 4) for number in range(40)])
    assert one is not None
    assert (one.kind, one.severity) == (Kind.FEW_PROMPTS, WARN)
    assert check_prompts([asked(number) for number in range(10)]) is None
    assert check_prompts([]) is None


@pytest.mark.parametrize("text", ["", "  \n"])
def test_empty_answers_are_told_and_refused_where_they_are_most(text: str) -> None:
    empty = [make_pair(text, f"x {number}", prompt=asked(number), rater=f"r{number}") for number in range(12)]
    assert found(check_pairs([*make_pairs(40), *empty])) == {Kind.EMPTY_ANSWERS: WARN}
    assert found(check_pairs(empty)) == {Kind.EMPTY_ANSWERS: REFUSE}


def test_an_answer_that_only_calls_a_tool_is_not_empty() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    rows = [Demonstration(asked(number), call) for number in range(12)]
    assert check_demonstrations(rows) == []


def test_demonstrations_are_checked_for_their_prompts_and_answers() -> None:
    rows = [Demonstration(make_prompt(), make_message("")) for _ in range(12)]
    assert found(check_demonstrations(rows)) == {Kind.ONE_PROMPT: REFUSE, Kind.EMPTY_ANSWERS: REFUSE}


@pytest.mark.parametrize(("long", "severity"), [(0, None), (1, WARN), (5, WARN), (6, REFUSE)])
def test_rows_that_are_too_long_are_told_and_refused_where_they_are_most(long: int, severity: Severity | None) -> None:
    finding = check_lengths([2000] * long + [100] * (10 - long), longest=1024)
    assert (finding.severity if finding else None) is severity
    if finding:
        assert finding.message.startswith(
            f"{long} of 10 rows looked at are longer than trainer.max_length (1024 tokens"
        )


def test_too_few_rows_are_refused_with_the_setting_that_says_how_many_are_enough() -> None:
    finding = check_number(10, 50, "pairs", "trainer.min_pairs")
    assert finding is not None
    assert finding.message.startswith("there are 10 pairs to train on, trainer.min_pairs asks for 50")
    assert check_number(50, 50, "pairs", "trainer.min_pairs") is None


def test_a_reward_model_that_a_coin_might_equal_is_doubted() -> None:
    coin = check_accuracy(Interval(value=0.53, lo=0.46, hi=0.6, n=12))
    assert coin is not None
    assert coin.severity is WARN
    assert "53% of held-out raters' choices (46% to 60%, 12 raters)" in coin.message
    assert check_accuracy(Interval(value=0.6, lo=0.51, hi=0.69, n=12)) is None
    assert check_accuracy(None) is None


def test_prompts_without_room_for_an_answer_are_told() -> None:
    left_out = check_room(7, 10)
    assert left_out is not None
    assert (left_out.kind, left_out.severity) == (Kind.TOO_LONG, WARN)
    assert left_out.message.startswith("3 of 10 prompts leave no room")
    assert check_room(10, 10) is None


@pytest.mark.parametrize(("billions", "size", "told"), [(7, "small", True), (7, "medium", False), (70, "large", False)])
def test_a_base_larger_than_its_size_says_is_told(billions: int, size: Size, told: bool) -> None:
    finding = check_size(billions * 10**9, size)
    assert (finding is not None) is told
    if finding:
        assert finding.message.startswith("the base has 7 B parameters, and trainer.size=small is meant for 0.1 to 5 B")


@given(WEIGHTS)
@settings(deadline=None)
def test_weights_count_as_at_most_as_many_as_there_are_and_at_least_as_one(weights: list[float]) -> None:
    assert 1 - 1e-9 <= effective(weights) <= len(weights) + 1e-9


@given(st.integers(1, 50), st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_equal_weights_count_as_many_as_there_are(number: int, weight: float) -> None:
    assert effective([weight] * number) == pytest.approx(number)
    assert effective([]) == 0


@given(st.permutations(range(30)), st.floats(0.1, 10))
@settings(deadline=None)
def test_neither_the_order_of_rows_nor_the_unit_of_weights_matters(order: list[int], unit: float) -> None:
    pairs = make_pairs(20, rater="mia")
    rows = [*pairs, *(swapped(pair, "max") for pair in pairs[:10])]
    kinds = [(finding.kind, finding.severity) for finding in check_pairs(rows)]
    other = check_pairs([replace(rows[place], weight=unit) for place in order])
    assert [(finding.kind, finding.severity) for finding in other] == kinds


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12))
@settings(deadline=None)
def test_a_weight_of_two_is_the_row_twice(raters: list[int]) -> None:
    """For a row that somebody is named for; what names nobody counts as one person's each."""
    rows = [replace(pair, rater=f"r{raters[n]}") for n, pair in enumerate(make_pairs(len(raters)))]
    twice, heavy = check_pairs([*rows, rows[0]]), check_pairs([replace(rows[0], weight=2.0), *rows[1:]])
    assert found(twice) == found(heavy)
