"""What each rater says about the difference of two arms, as a score, and what all of them say together.

A score is zero on average where the arms do not differ, whatever is expected of a rater, as long as that was expected
without knowing the rater's arm; the better the expectation, the less the score varies (Waudby-Smith et al. 2024, on
randomised experiments). Weighing a rater by p (1 - p) instead of dividing by it is the overlap weight of Li, Morgan and
Zaslavsky, JASA 2018: a rater met at a share of 1% cannot outweigh a hundred met at 50%.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from infra.contracts.manifests import Interval
from serving.monitors.boundary import one_sided
from serving.monitors.columns import Codes, Columns, Floats, Mask

PRIOR = 1.0  # of a stratum's first raters, how much the raters of all strata before them weigh


@dataclass(frozen=True, slots=True)
class Scores:
    """N of them. Each has the mean (difference of the arms) x size; a rater of several steps has several."""

    unit_N: Codes
    score_N: Floats
    size_N: Floats
    challenger_N: Mask

    def joined(self, other: Self) -> Self:
        names = ("unit_N", "score_N", "size_N", "challenger_N")
        return type(self)(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


@dataclass(frozen=True, slots=True)
class Sums:
    """`variance` is the intrinsic time: squared scores, each rater's added up first."""

    score: float
    variance: float
    size: float
    champions: int
    challengers: int

    @classmethod
    def of(cls, scores: Scores) -> Self:
        """A rater who comes back in a later step is likely to be in the same arm and of the same mind."""
        used_N = scores.size_N > 0
        unit_N, score_N = scores.unit_N[used_N], scores.score_N[used_N]
        challengers = np.unique(unit_N[scores.challenger_N[used_N]])
        return cls(
            score=float(score_N.sum()),
            variance=float((np.bincount(unit_N, score_N) ** 2).sum()) if len(unit_N) else 0.0,
            size=float(scores.size_N.sum()),
            champions=len(np.unique(unit_N)) - len(challengers),
            challengers=len(challengers),
        )

    def interval(self, rho: float, alpha: float, most: float = 1.0) -> Interval | None:
        """Each end fails with probability alpha at most, at all looks together. `most` is the greatest difference."""
        if self.size <= 0:
            return None
        value, reach = self.score / self.size, one_sided(self.variance, rho, alpha) / self.size
        value, lo, hi = (min(max(bound, -most), most) for bound in (value, value - reach, value + reach))
        return Interval(value=value, lo=lo, hi=hi, n=self.champions + self.challengers, level=1 - 2 * alpha)


def worth(counts_R: Floats, votes: float) -> Floats:
    """How many lone votes a rater's mean of so many is worth, if `votes` more double what is known of a lone voter.

    Means weighed by what they are worth sum to a process whose later steps do not depend on its earlier ones, though
    raters go on voting (Jennison and Turnbull, JASA 1997): what the boundary supposes.
    """
    return (1 + votes) * counts_R / (counts_R + votes)


def compare(rows: Columns, value_R: Floats, weight_R: Floats) -> Scores:
    """Challenger against champion, among raters drawn with the chance `share_R`. Rows without weight say nothing."""
    used_R = weight_R > 0
    rows, value_R, weight_R = rows.where(used_R), value_R[used_R], weight_R[used_R]
    expected_R, is_first_R = earlier_means(value_R, weight_R, rows.stratum_R)
    counted_R = np.where(is_first_R, 0.0, weight_R)
    return Scores(
        unit_N=rows.unit_R,
        score_N=(rows.challenger_R - rows.share_R) * (value_R - expected_R) * counted_R,
        size_N=rows.share_R * (1 - rows.share_R) * counted_R,
        challenger_N=rows.challenger_R,
    )


def earlier_means(value_R: Floats, weight_R: Floats, stratum_R: Codes) -> tuple[Floats, Mask]:
    """The mean of the rows before each row: of its stratum, and a little of all. Of the first nothing is expected."""
    everywhere_R = np.zeros_like(stratum_R)
    before_R = _earlier_sums(weight_R, everywhere_R)
    is_first_R = before_R <= 0
    overall_R = np.divide(
        _earlier_sums(value_R * weight_R, everywhere_R), before_R, out=value_R.copy(), where=~is_first_R
    )
    total_R = _earlier_sums(value_R * weight_R, stratum_R) + PRIOR * overall_R
    return total_R / (_earlier_sums(weight_R, stratum_R) + PRIOR), is_first_R


def _earlier_sums(amount_R: Floats, group_R: Codes) -> Floats:
    """Of each row's group, up to the row before it."""
    order_R = np.argsort(group_R, kind="stable")
    sorted_R = amount_R[order_R]
    sums_R = np.cumsum(sorted_R) - sorted_R
    _, start_G, count_G = np.unique(group_R[order_R], return_index=True, return_counts=True)
    found_R = np.empty_like(sums_R)
    found_R[order_R] = sums_R - np.repeat(sums_R[start_G], count_G)
    return found_R
