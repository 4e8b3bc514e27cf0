"""What a rollout says beforehand that it can see, it sees."""

import numpy as np
import pytest

from infra.contracts.rollouts import STEPS, Step, StepKind
from serving.monitors.boundary import one_sided
from serving.monitors.planning import planned_votes, smallest_drop, vote_rho
from tests.support.raters import LIMITS


def power(drop: float, *, rate: float, votes: int, seed: int) -> float:
    """Share of rollouts of one step at 50% that are below the boundary when the planned votes are in."""
    rng, rollouts, alpha = np.random.default_rng(seed), 4_000, LIMITS.alpha_of("vote_rate")
    rho, aborted = vote_rho((Step(share=0.5, min_votes=votes),), alpha), 0
    for _ in range(rollouts):
        treated_N = rng.random(2 * votes) < 0.5
        ups_N = rng.random(2 * votes) < rate - drop * treated_N
        score_N = (treated_N - 0.5) * (ups_N - (rate - drop / 2))
        aborted += score_N.sum() < -one_sided(float((score_N**2).sum()), rho, alpha)
    return aborted / rollouts


@pytest.mark.parametrize(("rate", "votes"), [(0.5, 200), (0.7, 1_000)])
def test_the_smallest_drop_aborts_in_four_of_five_rollouts(rate: float, votes: int) -> None:
    drop = smallest_drop((Step(share=0.5, min_votes=votes),), LIMITS, rate=rate)
    assert 0.75 < power(drop, rate=rate, votes=votes, seed=1) < 0.86
    assert power(drop / 2, rate=rate, votes=votes, seed=2) < 0.4


def test_more_votes_see_smaller_drops_and_more_votes_of_the_same_raters_see_less() -> None:
    few, many = (smallest_drop((Step(share=0.5, min_votes=votes),), LIMITS) for votes in (100, 1_000))
    alike = smallest_drop((Step(share=0.5, min_votes=1_000),), LIMITS, votes_per_rater=10)
    assert many < alike < few


def test_votes_at_a_small_share_are_compared_with_nearly_all_others() -> None:
    assert planned_votes((Step(share=0.01, min_votes=100),)) == pytest.approx(99)
    assert planned_votes((Step(share=0.5, min_votes=100),)) == pytest.approx(50)


def test_a_shadow_step_plans_no_votes_and_a_plan_without_votes_sees_nothing() -> None:
    shadow = Step(kind=StepKind.SHADOW, share=0.1, min_votes=100)
    assert smallest_drop((shadow, Step(share=0.5)), LIMITS) == 1.0


def test_the_usual_steps_see_fourteen_points_with_the_votes_they_must_have() -> None:
    assert smallest_drop(STEPS, LIMITS) == pytest.approx(0.14, abs=0.01)
