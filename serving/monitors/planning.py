"""What a rollout is able to see, said before it starts."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from infra.contracts.rollouts import Step, StepKind
from serving.monitors.boundary import one_sided, tuned
from serving.monitors.limits import Limits
from serving.monitors.scores import worth

LEAST_RATERS = 100  # a plan of fewer, or of none, still has a boundary
WORST_RATE = 0.5  # of which votes vary most
POWER = 0.8


def planned_votes(steps: Sequence[Step], *, answers_too: bool = False) -> float:
    """Summed size of the scores when each step has the votes it must have (or answers), one a rater."""
    canary = [step for step in steps if step.kind is StepKind.CANARY]
    return math.fsum((1 - step.share) * max(step.min_votes, answers_too * step.min_answers) for step in canary)


def vote_rho(steps: Sequence[Step], alpha: float) -> float:
    """Narrowest when the planned votes are in."""
    return tuned(max(planned_votes(steps), LEAST_RATERS) * WORST_RATE * (1 - WORST_RATE), alpha)


def guard_rho(steps: Sequence[Step], alpha: float, spread: float) -> float:
    """`spread` is the standard deviation among raters that was thought of; a wrong one costs width, not validity."""
    return tuned(max(planned_votes(steps, answers_too=True), LEAST_RATERS) * spread**2, alpha)


def shadow_rho(steps: Sequence[Step], alpha: float) -> float:
    """Narrowest when the shadow's planned answers are judged, one a rater."""
    planned = sum(step.min_answers for step in steps if step.kind is StepKind.SHADOW)
    return tuned(max(planned, LEAST_RATERS) * WORST_RATE * (1 - WORST_RATE), alpha)


def smallest_drop(
    steps: Sequence[Step], limits: Limits, *, rate: float = WORST_RATE, votes_per_rater: float = 1, power: float = POWER
) -> float:
    """The drop of the vote rate that aborts with this power by the time the planned votes are in; 1 without a plan.

    `rate` is the champion's. Votes of one rater are alike, so that more of them from each say less in all.
    """
    each = float(worth(np.array([votes_per_rater]), limits.rater_votes)[0]) / votes_per_rater
    size = planned_votes(steps) * each
    if size <= 0:
        return 1.0
    variance, alpha = size * rate * (1 - rate), limits.alpha_of("vote_rate")
    reach = one_sided(variance, vote_rho(steps, alpha), alpha)
    return min(1.0, (reach + NormalDist().inv_cdf(power) * math.sqrt(variance)) / size)
