"""Whole rollouts among made-up raters keep their promises. `python -m tests.bench.rollouts` has a thousand of each."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from scipy.stats import binom, norm

from infra.contracts.rollouts import DAY_S, Step, StepKind
from tests.bench.rollouts import share, summary
from tests.support.simulated_rollouts import LIMITS, Course, World, draws, pooled_z, simulate_one

STEPS = (
    Step(kind=StepKind.SHADOW, share=0.1, min_answers=50),
    Step(share=0.05, pairs=0.5, min_votes=20),
    Step(share=0.25, pairs=0.5, min_votes=50, margin=0.2),
    Step(share=0.5, pairs=0.5, min_votes=100, margin=0.05, max_s=3 * DAY_S),
)
SMALL = {"raters": 1_000, "answers_per_day": 4_000, "looks_per_day": 4}
ROLLOUTS = {0.0: 120, -0.1: 40, 0.05: 25}


@cache
def courses(effect: float, **others: float) -> Sequence[Course]:
    world = World(effect=effect, **{**SMALL, **others})  # type: ignore[arg-type]  # one dict for all fields
    return [simulate_one(world, 5, number, STEPS) for number in range(ROLLOUTS.get(effect, 20))]


def test_equal_versions_abort_no_more_often_than_alpha_says_though_everybody_grows_harder_to_please() -> None:
    found = courses(0.0)
    aborted = sum(course.outcome == "aborted" for course in found)
    assert aborted <= binom.ppf(0.99, len(found), LIMITS.alpha)
    assert sum(course.naive is not None for course in found) > len(found) / 3, "pooled votes must be a trap here"


def test_the_interval_holds_the_truth_at_every_look_of_nearly_every_rollout() -> None:
    for effect in ROLLOUTS:
        missed = sum(not course.covered for course in courses(effect))
        assert missed <= binom.ppf(0.99, ROLLOUTS[effect], 2 * LIMITS.alpha_of("vote_rate"))


def test_ten_points_worse_never_becomes_champion_and_five_better_does() -> None:
    worse = [course.outcome for course in courses(-0.1)]
    assert "passed" not in worse
    assert worse.count("aborted") >= 0.9 * len(worse)
    assert sum(course.outcome == "passed" for course in courses(0.05)) >= 0.8 * ROLLOUTS[0.05]


def test_a_challenger_that_fails_is_stopped_by_its_errors_before_the_last_step() -> None:
    found = courses(0.01, failing_effect=0.3)
    assert {course.failed for course in found} == {("errors",)}
    assert max(course.step for course in found) < 3


def test_one_that_keeps_people_from_voting_is_stopped_by_the_voters_ratio() -> None:
    found = courses(0.001, voting_effect=-0.3, raters=4_000)
    assert sum("voting" in course.failed for course in found) >= 15


def test_every_rater_has_one_arm_in_each_step_and_none_leaves_the_challenger() -> None:
    assert all(course.sticky for effect in ROLLOUTS for course in courses(effect))


def test_raters_are_in_the_arms_as_the_shares_say() -> None:
    met = [place for effect in ROLLOUTS for course in courses(effect) for place in course.shares]
    away = [(drawn - wanted * raters) / np.sqrt(raters * wanted * (1 - wanted)) for wanted, raters, drawn in met]
    assert len(away) > 300
    assert np.mean(np.abs(away) > norm.ppf(0.975)) < 0.08


def test_places_are_drawn_as_the_gateway_draws_them_and_a_growing_share_keeps_those_who_are_in() -> None:
    place_U = np.linspace(0, 1, 1_000, endpoint=False)
    small, large = draws(place_U, 0.05), draws(place_U, 0.25)
    assert (small.sum(), large.sum()) == (50, 250)
    assert not (small & ~large).any()


def test_a_summary_counts_outcomes_with_exact_intervals() -> None:
    found = summary(World(effect=-0.1), courses(-0.1))
    assert found["aborted"]["lo"] < found["aborted"]["value"] <= found["aborted"]["hi"]
    assert found["votes_until_aborted"]["p10"] <= found["votes_until_aborted"]["p50"]
    assert found["votes_until_passed"] is None
    assert share(0, 40) == {"value": 0.0, "lo": 0.0, "hi": pytest.approx(1 - 0.025 ** (1 / 40))}


def test_without_votes_in_an_arm_the_pooled_test_is_silent() -> None:
    assert pooled_z([], 10) == 0.0
