"""What each rater says about the difference of two arms, as a score, and what all of them say together.

A score is zero on average where the arms do not differ, whatever is expected of a rater, as long as that was expected
without knowing the rater's arm; the better the expectation, the less the score varies (Waudby-Smith et al. 2024, on
randomised experiments). Weighing a rater by p (1 - p) instead of dividing by it is the overlap weight of Li, Morgan and
Zaslavsky, JASA 2018: a rater met at a share of 1% cannot outweigh a hundred met at 50%.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from infra.contracts.manifests import Interval
from serving.monitors.boundary import one_sided
from serving.monitors.columns import Codes, Columns, Floats, Mask

PRIOR = 1.0  # of a stratum's first raters, how much the raters of all strata before them weigh


@dataclass(frozen=True, slots=True)
class Scores:
    """N of them. Each has the mean (difference of the arms) x size; a rater of several steps has several.

    `champion_N` and `challenger_N` are the arms that the rater met: both, where it is compared with itself.
    """

    unit_N: Codes
    score_N: Floats
    size_N: Floats
    champion_N: Mask
    challenger_N: Mask

    def joined(self, other: Self) -> Self:
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return type(self)(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True, slots=True)
class Sums:
    """`variance` is the intrinsic time: squared scores, each rater's added up first."""

    score: float
    variance: float
    size: float
    raters: int
    champions: int
    challengers: int

    @classmethod
    def of(cls, scores: Scores) -> Self:
        """A rater who comes back in a later step is likely to be in the same arm and of the same mind."""
        used_N = scores.size_N > 0
        unit_N, score_N = scores.unit_N[used_N], scores.score_N[used_N]
        champion_N, challenger_N = scores.champion_N[used_N], scores.challenger_N[used_N]
        return cls(
            score=float(score_N.sum()),
            variance=float((np.bincount(unit_N, score_N) ** 2).sum()) if len(unit_N) else 0.0,
            size=float(scores.size_N.sum()),
            raters=_different(unit_N),
            champions=_different(unit_N[champion_N]),
            challengers=_different(unit_N[challenger_N]),
        )

    def interval(self, rho: float, alpha: float, most: float = 1.0) -> Interval | None:
        """Each end fails with probability alpha at most, at all looks together. `most` is the greatest difference."""
        if self.size <= 0:
            return None
        value, reach = self.score / self.size, one_sided(self.variance, rho, alpha) / self.size
        value, lo, hi = (min(max(bound, -most), most) for bound in (value, value - reach, value + reach))
        return Interval(value=value, lo=lo, hi=hi, n=self.raters, level=1 - 2 * alpha)


def worth(counts_R: Floats, votes: float) -> Floats:
    """How many lone votes a rater's mean of so many is worth, if `votes` more double what is known of a lone voter.

    Means weighed by what they are worth sum to a process whose later steps do not depend on its earlier ones, though
    raters go on voting (Jennison and Turnbull, JASA 1997): what the boundary supposes.
    """
    return (1 + votes) * counts_R / (counts_R + votes)


def compare(rows: Columns, value_R: Floats, weight_R: Floats) -> Scores:
    """Challenger against champion, among raters drawn with the chance `share_R`. Rows without weight say nothing."""
    used_R = weight_R > 0
    value_N, weight_N, share_N = value_R[used_R], weight_R[used_R], rows.share_R[used_R]
    challenger_N, stratum_N = rows.challenger_R[used_R], rows.stratum_R[used_R]
    expected_N, is_first_N = earlier_means(value_N, weight_N, stratum_N)
    counted_N = np.where(is_first_N, 0.0, weight_N)
    return Scores(
        unit_N=rows.unit_R[used_R],
        score_N=(challenger_N - share_N) * (value_N - expected_N) * counted_N,
        size_N=share_N * (1 - share_N) * counted_N,
        champion_N=~challenger_N,
        challenger_N=challenger_N,
    )


def earlier_means(value_N: Floats, weight_N: Floats, stratum_N: Codes) -> tuple[Floats, Mask]:
    """The mean of the rows before each row: of its stratum, and a little of all. Of the first nothing is expected."""
    amounts_N2 = np.stack([value_N * weight_N, weight_N], axis=1)
    everywhere_N2 = np.cumsum(amounts_N2, axis=0) - amounts_N2
    is_first_N = np.arange(len(value_N)) == 0
    overall_N = np.divide(everywhere_N2[:, 0], everywhere_N2[:, 1], out=value_N.copy(), where=~is_first_N)
    total_N, before_N = _earlier_sums(amounts_N2, stratum_N).T
    return (total_N + PRIOR * overall_N) / (before_N + PRIOR), is_first_N


def _earlier_sums(amounts_N2: Floats, group_N: Codes) -> Floats:
    """Of each row's group, up to the row before it."""
    small_N = group_N.astype(np.min_scalar_type(int(group_N.max(initial=0))))  # few groups are sorted by their bytes
    order_N = np.argsort(small_N, kind="stable")
    sorted_N2, group_N = amounts_N2[order_N], group_N[order_N]
    sums_N2 = np.cumsum(sorted_N2, axis=0) - sorted_N2
    is_start_N = np.diff(group_N, prepend=-1) > 0
    found_N2 = np.empty_like(sums_N2)
    found_N2[order_N] = sums_N2 - sums_N2[is_start_N][np.cumsum(is_start_N) - 1]
    return found_N2


def _different(unit_N: Codes) -> int:
    return int(np.count_nonzero(np.bincount(unit_N)))
