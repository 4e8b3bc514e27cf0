"""How good a reward model is on raters it never saw: accuracy, calibration, and whether it merely likes length.

Every figure is over pairs, its interval over raters: one rater's votes are not independent of each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, stdtrit

from infra.contracts.manifests import Interval
from trainer.intervals import LEVEL

NEWTON_STEPS = 50
STEEPEST = 1e3  # a slope beyond this means that the pairs are separable: there is no finite one


@dataclass(frozen=True, slots=True)
class Judged:
    """One held-out choice: score and length (tokens) of the chosen answer minus those of the rejected one."""

    margin: float
    longer: float
    rater: str
    source: str = "human"
    segment: str = ""


def describe(rows: Sequence[Judged]) -> dict[str, Any]:
    """JSON for manifests and evidence; figures that can't be measured are left out."""
    intervals = {
        "accuracy": accuracy(rows),
        "log_loss": log_loss(rows),
        "brier": brier(rows),
        "calibration_slope": calibration_slope(rows),
    }
    return {
        "pairs": len(rows),
        **{name: found.model_dump() for name, found in intervals.items() if found},
        "accuracy_by_source": _accuracy_by("source", rows),
        "accuracy_by_segment": _accuracy_by("segment", rows),
        "length_correlation": length_correlation(rows),
    }


def accuracy(rows: Sequence[Judged]) -> Interval | None:
    """Share of pairs whose chosen answer scores higher; equal scores count half. One hit and one miss are added."""
    known = hits(rows)
    found = clustered([*known, 1.0, 0.0], [*(row.rater for row in rows), "a hit", "a miss"])
    if found is None or not rows:
        return None
    centre, half, clusters = found
    lo, hi = max(0.0, centre - half), min(1.0, centre + half)
    return Interval(value=sum(known) / len(known), lo=lo, hi=hi, n=clusters - 2, level=LEVEL)


def hits(rows: Sequence[Judged]) -> list[float]:
    """1 where the chosen answer scores higher, a half where neither does."""
    return [0.5 if row.margin == 0 else float(row.margin > 0) for row in rows]


def log_loss(rows: Sequence[Judged]) -> Interval | None:
    """Mean -log P(chosen wins), nats per pair."""
    return _over_raters([_softplus(-row.margin) for row in rows], rows)


def brier(rows: Sequence[Judged]) -> Interval | None:
    """Mean (1 - P(chosen wins))^2."""
    return _over_raters([float(expit(-row.margin)) ** 2 for row in rows], rows)


def calibration_slope(rows: Sequence[Judged]) -> Interval | None:
    """s of P(chosen wins) = sigmoid(s * margin) by maximum likelihood: 1 is calibrated, below 1 overconfident.

    The interval's variance is the sandwich over raters. None where the pairs are separable or too few.
    """
    margins_N = np.array([row.margin for row in rows])
    slope = fit_slope(margins_N)
    if slope is None:
        return None
    wrong_N = expit(-slope * margins_N)
    information = float((margins_N**2 * wrong_N * (1 - wrong_N)).sum())
    scores = sums_by(margins_N * wrong_N, [row.rater for row in rows])
    if len(scores) < 2:
        return None
    spread = math.sqrt(len(scores) / (len(scores) - 1) * float((scores**2).sum())) / information
    half = float(stdtrit(len(scores) - 1, 0.5 + LEVEL / 2)) * spread
    return Interval(value=slope, lo=slope - half, hi=slope + half, n=len(scores), level=LEVEL)


def length_correlation(rows: Sequence[Judged]) -> float | None:
    """Correlation of score with length among answers to the same prompt: -1 to 1, None where neither varies."""
    margins_N, longer_N = (np.array([getattr(row, name) for row in rows]) for name in ("margin", "longer"))
    scale = math.sqrt(float((margins_N**2).sum() * (longer_N**2).sum()))
    return float((margins_N * longer_N).sum()) / scale if scale > 0 else None


def fit_slope(margins_N: np.ndarray) -> float | None:
    """s of sigmoid(s * margin) by Newton's method on a concave likelihood; None where the pairs are separable."""
    if not (margins_N < 0).any() or not (margins_N > 0).any():
        return None
    slope = 0.0
    for _ in range(NEWTON_STEPS):
        wrong_N = expit(-slope * margins_N)
        step = float((margins_N * wrong_N).sum() / (margins_N**2 * wrong_N * (1 - wrong_N)).sum())
        slope += step
        if abs(step) < 1e-9 * max(1.0, abs(slope)):
            return slope
        if not abs(slope) < STEEPEST:
            return None
    return slope


def _accuracy_by(name: str, rows: Sequence[Judged]) -> dict[str, Any]:
    """Where rows name no segment there is nothing to tell."""
    values = sorted({getattr(row, name) for row in rows} - {""})
    found = {value: accuracy([row for row in rows if getattr(row, name) == value]) for value in values}
    return {value: interval.model_dump() for value, interval in found.items() if interval}


def _over_raters(values: Sequence[float], rows: Sequence[Judged]) -> Interval | None:
    found = clustered(values, [row.rater for row in rows])
    if found is None:
        return None
    mean, half, clusters = found
    return Interval(value=mean, lo=mean - half, hi=mean + half, n=clusters, level=LEVEL)


def clustered(values: Sequence[float], clusters: Sequence[str]) -> tuple[float, float, int] | None:
    """Mean over values, half width over clusters (the ratio estimator's linearisation), number of clusters."""
    count = len(set(clusters))
    if count < 2:
        return None
    values_N = np.asarray(values, dtype=np.float64)
    mean = float(values_N.mean())
    residuals = sums_by(values_N - mean, clusters)
    error = math.sqrt(count / (count - 1) * float((residuals**2).sum())) / len(values_N)
    return mean, float(stdtrit(count - 1, 0.5 + LEVEL / 2)) * error, count


def sums_by(values_N: np.ndarray, clusters: Sequence[str]) -> np.ndarray:
    names, places_N = np.unique(np.array(clusters), return_inverse=True)
    return np.bincount(places_N, weights=values_N, minlength=len(names))


def _softplus(value: float) -> float:
    return float(np.logaddexp(0.0, value))
