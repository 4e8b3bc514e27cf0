"""How much a model's votes weigh: no more than its agreement with people on the same questions shows.

Agreement understates a model that errs where people err too, and a person's error counts against it: both are the
cautious side. Questions are taken as independent.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logit

from feedback.weighing.opinions import Bools, Floats, Ints, Opinions, sums

Z = 1.959963984540054  # two-sided 95%


@dataclass(frozen=True, slots=True)
class AiPolicy:
    """Fewer than `shared_min` shared questions weigh nothing; `share` caps all models by what people weigh together."""

    shared_min: int
    weight_max: float
    share: float


@dataclass(frozen=True)
class Calibration:
    """By rater place: questions that people decided too, on how many of them it agreed, and what a vote of it weighs.

    `lo_R` and `hi_R` are Wilson's 95% interval of the agreement (1927, 10.1080/01621459.1927.10502953); without shared
    questions they are 0 and 1. Places of people hold zeros.
    """

    shared_R: Ints
    agreed_R: Ints
    lo_R: Floats
    hi_R: Floats
    weight_R: Floats

    def told(self, place: int, policy: AiPolicy) -> dict[str, Any]:
        """The figures of one model, and why it weighs nothing, if it does."""
        shared, agreed = int(self.shared_R[place]), int(self.agreed_R[place])
        lo, hi, weight = (round(float(values_R[place]), 4) for values_R in (self.lo_R, self.hi_R, self.weight_R))
        reason = ""
        if shared < policy.shared_min:
            reason = f"people decided only {shared} of the questions it answered: {policy.shared_min} are needed"
        elif weight == 0:
            reason = "its agreement with people may be chance"
        agreement = round(agreed / shared, 4) if shared else None
        return {"shared": shared, "agreement": agreement, "lo": lo, "hi": hi, "weight": weight, "reason": reason}


def calibrate(opinions: Opinions, ai_R: Bools, decided_I: Floats, unknown: float, policy: AiPolicy) -> Calibration:
    """`decided_I` is how probably people's answer is yes, a half where they have none.

    A vote weighs the log odds of the interval's lower end over those of an unknown person, who is right with the
    probability `unknown` and weighs 1: as `weights.rater_weight` has it for people, with the lower end for the mean.
    """
    once = opinions.once()
    here = once.where(ai_R[once.rater_N] & (decided_I[once.item_N] != 0.5))
    same_N = here.yes_N == (decided_I[here.item_N] > 0.5)
    shared_R = np.bincount(here.rater_N, minlength=opinions.raters)
    agreed_R = sums(here.rater_N, same_N, opinions.raters).astype(np.int64)
    lo_R, hi_R = wilson(agreed_R, shared_R)
    odds_R = logit(np.clip(lo_R, 0.5, 1 - 1e-12)) / logit(unknown)
    enough_R = ai_R & (shared_R >= policy.shared_min)
    return Calibration(shared_R, agreed_R, lo_R, hi_R, np.where(enough_R, np.minimum(odds_R, policy.weight_max), 0.0))


def wilson(agreed_R: Ints, shared_R: Ints) -> tuple[Floats, Floats]:
    """Both ends of the interval of a share; 0 and 1 where there is nothing to tell it from."""
    n_R = np.maximum(shared_R, 1).astype(np.float64)
    p_R = agreed_R / n_R
    centre_R = p_R + Z**2 / (2 * n_R)
    half_R = Z * np.sqrt(p_R * (1 - p_R) / n_R + Z**2 / (4 * n_R**2))
    scale_R, known_R = 1 + Z**2 / n_R, shared_R > 0
    lo_R, hi_R = (centre_R - half_R) / scale_R, (centre_R + half_R) / scale_R
    return np.where(known_R, np.maximum(lo_R, 0.0), 0.0), np.where(known_R, np.minimum(hi_R, 1.0), 1.0)


def share_factor(people: float, models: float, share: float) -> float:
    """At most 1, so that models weigh no more together than `share` times what people do."""
    return min(1.0, share * people / models) if models > 0 else 1.0
