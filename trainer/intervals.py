"""Two-sided intervals over independent units (prompts, raters, cases); a gate compares them with its threshold.

Every function takes one number per unit. None means too few units for any interval, which a gate calls inconclusive.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit  # Student's quantile alone: scipy.stats takes a second to import

from infra.contracts.manifests import Interval

LEVEL = 0.95


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Student's interval of a mean."""
    if len(values) < 2:
        return None
    mean, half = _mean_and_half(np.asarray(values, dtype=np.float64), level)
    return Interval(value=mean, lo=mean - half, hi=mean + half, n=len(values), level=level)


def share_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Of values in [0, 1]. One success and one failure are added, so that unanimity is not taken for certainty.

    (Agresti and Caffo 2000, 10.1080/00031305.2000.10474560, for one sample.) `value` is the plain mean.
    """
    return _padded(values, (0.0, 1.0), level)


def difference_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Of paired differences in [-1, 1], with one unit added that differs each way.

    For yes/no outcomes this is Bonett and Price 2012 (10.3102/1076998611411915) with Student's quantile.
    """
    return _padded(values, (-1.0, 1.0), level)


def ratio_interval(tops: Sequence[float], bottoms: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Of sum(tops) / sum(bottoms), paired by unit: the delta method on the logarithm of the ratio."""
    top, bottom = np.asarray(tops, dtype=np.float64), np.asarray(bottoms, dtype=np.float64)
    if len(top) < 2 or not top.sum() > 0 or not bottom.sum() > 0:
        return None
    ratio = float(top.sum() / bottom.sum())
    _, half = _mean_and_half(top - ratio * bottom, level)
    spread = math.exp(half / float(top.mean()))
    return Interval(value=ratio, lo=ratio / spread, hi=ratio * spread, n=len(top), level=level)


def _padded(values: Sequence[float], extremes: tuple[float, float], level: float) -> Interval | None:
    if len(values) < 2:
        return None
    mean, half = _mean_and_half(np.asarray([*values, *extremes], dtype=np.float64), level, population=True)
    lo, hi = max(extremes[0], mean - half), min(extremes[1], mean + half)
    return Interval(value=float(np.mean(values)), lo=lo, hi=hi, n=len(values), level=level)


def _mean_and_half(values: np.ndarray, level: float, *, population: bool = False) -> tuple[float, float]:
    error = values.std(ddof=0 if population else 1) / math.sqrt(len(values))
    return float(values.mean()), float(stdtrit(len(values) - 1, 0.5 + level / 2) * error)
