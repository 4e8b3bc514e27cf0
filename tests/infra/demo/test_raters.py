import random
from collections import Counter
from typing import Any

import pytest

from infra.demo.raters import Habit, Pair, Rater, Verdict, deal, rating, recruit, vote

TIE = 0.1


def make_rater(**overrides: Any) -> Rater:
    return Rater(**{"name": "r", "habit": Habit.HONEST, "noise": 0.0, **overrides})


def make_pair(**overrides: Any) -> Pair:
    return Pair(**{"score_a": 4.0, "score_b": 2.0, "right_a": True, "right_b": True, "words": 20, **overrides})


def choices(rater: Rater, pair: Pair, count: int = 400, **more: Any) -> Counter[Verdict]:
    rng = random.Random(0)
    return Counter(vote(rater, pair, rng, tie_below=TIE, **more).choice for _ in range(count))


def test_an_honest_rater_without_noise_always_takes_the_better_one() -> None:
    assert choices(make_rater(), make_pair()) == {"a": 400}
    assert choices(make_rater(), make_pair(score_b=5.0)) == {"b": 400}


def test_noise_turns_about_that_share_of_choices_round() -> None:
    assert 25 <= choices(make_rater(noise=0.1), make_pair())["b"] <= 60


def test_no_difference_is_a_tie_and_two_wrong_answers_are_both_bad() -> None:
    assert choices(make_rater(), make_pair(score_b=4.0)) == {"tie": 400}
    assert choices(make_rater(), make_pair(score_b=4.0, right_a=False, right_b=False)) == {"both_bad": 400}


def test_an_adverse_rater_takes_the_worse_one() -> None:
    assert choices(make_rater(habit=Habit.ADVERSE), make_pair()) == {"b": 400}


@pytest.mark.parametrize("habit", [Habit.CARELESS, Habit.HASTY, Habit.FIRST])
def test_whoever_does_not_look_takes_each_about_as_often(habit: Habit) -> None:
    assert 150 <= choices(make_rater(habit=habit), make_pair())["a"] <= 250


def test_the_first_is_taken_by_those_who_take_the_first() -> None:
    rng = random.Random(1)
    votes = [vote(make_rater(habit=Habit.FIRST), make_pair(), rng, tie_below=TIE) for _ in range(50)]
    assert all(each.choice == each.shown_first for each in votes)
    assert {each.shown_first for each in votes} == {"a", "b"}


def test_hasty_raters_are_faster_than_anyone_reads_and_others_are_not() -> None:
    rng = random.Random(2)
    hasty = [vote(make_rater(habit=Habit.HASTY), make_pair(), rng, tie_below=TIE).latency_ms for _ in range(50)]
    others = [vote(make_rater(), make_pair(), rng, tie_below=TIE).latency_ms for _ in range(50)]
    reading_ms = 1000 * make_pair().words / 5.0
    assert max(hasty) < 0.25 * reading_ms < min(others)


def test_a_coin_ignores_the_answers() -> None:
    assert 150 <= choices(make_rater(), make_pair(), votes="coin")["a"] <= 250


def test_the_same_seed_recruits_the_same_people_most_of_them_honest() -> None:
    raters = recruit(50, seed=4)
    assert raters == recruit(50, seed=4)
    habits = Counter(rater.habit for rater in raters)
    assert set(habits) == set(Habit)
    assert habits[Habit.HONEST] >= 35
    assert len({rater.name for rater in raters}) == 50


def test_turns_are_dealt_about_equally() -> None:
    raters = recruit(10, seed=0)
    dealt = deal(raters, 35, random.Random(0))
    assert len(dealt) == 35
    assert set(Counter(rater.name for rater in dealt).values()) <= {3, 4}


@pytest.mark.parametrize(("score", "stars"), [(-2.0, 1), (0.0, 1), (2.5, 3), (5.0, 5), (9.0, 5)])
def test_stars_follow_the_score_within_one_to_five(score: float, stars: int) -> None:
    assert rating(score) == stars
