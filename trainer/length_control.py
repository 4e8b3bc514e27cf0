"""The judge's win rate without what longer answers win by being longer.

The judge's score differences are regressed on differences in length, over pairs of answers to one prompt, and each pair
is decided by what is left. The idea is AlpacaEval 2's (Dubois et al. 2024, arXiv:2404.04475), with least squares in
place of their logistic regression: the judge gives scores, not votes, so there is a closed form.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import stdtrit

from infra.contracts.manifests import Interval
from trainer.intervals import LEVEL, share_interval

Grouped = Sequence[Sequence[float]]
LEAST_PROMPTS = 3  # fewer have no slope


@dataclass(frozen=True, slots=True)
class Pairs:
    """N pairs of answers: candidate's score less the champion's, log of its length over the champion's, the prompt."""

    scores_N: np.ndarray
    longer_N: np.ndarray
    prompt_N: np.ndarray

    @property
    def prompts(self) -> int:
        return int(self.prompt_N.max()) + 1 if len(self.prompt_N) else 0

    def win_rates(self, slope: float) -> list[float]:
        """By prompt, once `slope` per unit of length is taken off the scores; ties half."""
        left_N = self.scores_N - slope * self.longer_N
        wins_N = np.where(left_N == 0, 0.5, left_N > 0)
        return list(np.bincount(self.prompt_N, wins_N) / np.bincount(self.prompt_N))


def make_pairs(scores: tuple[Grouped, Grouped], lengths: tuple[Grouped, Grouped]) -> Pairs:
    """`scores[side][prompt][sample]` and `lengths` alike, in tokens; unanswered prompts are left out."""
    groups = [group for group in zip(*scores, *lengths, strict=True) if all(group)]
    rows = [
        (mine - theirs, math.log((1 + long) / (1 + longs)), place)
        for place, (ours, others, our_lengths, other_lengths) in enumerate(groups)
        for (mine, long), (theirs, longs) in product(
            zip(ours, our_lengths, strict=True), zip(others, other_lengths, strict=True)
        )
    ]
    found = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return Pairs(found[:, 0], found[:, 1], found[:, 2].astype(np.int64))


def controlled_win_rate(pairs: Pairs) -> Interval | None:
    """At equal lengths. The slope's own uncertainty widens the interval: both half widths are added in quadrature."""
    slope, error = fit_slope(pairs)
    rates = pairs.win_rates(slope)
    share = share_interval(rates)
    if share is None:
        return None
    reach = float(stdtrit(max(1, pairs.prompts - 1), 0.5 + LEVEL / 2)) * error
    moved = max(abs(float(np.mean(pairs.win_rates(slope + step))) - share.value) for step in (-reach, reach))
    middle, half = (share.lo + share.hi) / 2, math.hypot((share.hi - share.lo) / 2, moved)
    return share.model_copy(update={"lo": max(0.0, middle - half), "hi": min(1.0, middle + half)})


def fit_slope(pairs: Pairs) -> tuple[float, float]:
    """Score per unit of log length with its standard error, clustered by prompt; 0 where lengths don't vary."""
    if pairs.prompts < LEAST_PROMPTS:
        return 0.0, 0.0
    x_N, y_N = pairs.longer_N - pairs.longer_N.mean(), pairs.scores_N - pairs.scores_N.mean()
    spread = float((x_N**2).sum())
    if spread == 0:
        return 0.0, 0.0
    slope = float((x_N * y_N).sum()) / spread
    sums_P = np.bincount(pairs.prompt_N, x_N * (y_N - slope * x_N))
    correction = pairs.prompts / (pairs.prompts - 1)
    return slope, math.sqrt(correction * float((sums_P**2).sum())) / spread
