"""Whether a difference of scores means the log-odds that it claims, on raters who trained nothing.

One temperature by maximum likelihood (Guo et al. 2017, arXiv 1706.04599, section 4.2). It is fitted on all held-out
raters, but what it achieves is told from the half of them that it was not fitted on.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import expit

from trainer.reward_metrics import Judged, brier, fit_slope, log_loss

LEAST_PAIRS = 100  # a temperature of fewer is mostly noise
ECE_PAIRS = 500  # below, empty bins make a calibrated model look wrong
BINS = 10


def temperature(rows: Sequence[Judged]) -> float | None:
    """What margins must be divided by; None where pairs are too few, all right, or no more often right than wrong."""
    if len(rows) < LEAST_PAIRS:
        return None
    slope = fit_slope(np.array([row.margin for row in rows]))
    return 1 / slope if slope is not None and slope > 0 else None


def calibration(rows: Sequence[Judged]) -> dict[str, Any]:
    """For the model card: the temperature, and log loss, Brier and ECE at one of other raters; {} where none fits."""
    found, scaled = temperature(rows), _cross_fitted(rows)
    if found is None or scaled is None:
        return {}
    intervals = {"log_loss": log_loss(scaled), "brier": brier(scaled)}
    after = {name: interval.model_dump() for name, interval in intervals.items() if interval}
    return {"temperature": found, "calibrated": {**after, **calibration_error(scaled)}}


def calibration_error(rows: Sequence[Judged]) -> dict[str, float]:
    """`{"ece": ...}` where there are enough pairs for one."""
    if len(rows) <= ECE_PAIRS:
        return {}
    return {"ece": expected_calibration_error(np.array([row.margin for row in rows]))}


def expected_calibration_error(margins_N: np.ndarray, bins: int = BINS) -> float:
    """Mean gap between how sure and how often right, over bins of as many pairs each (Naeini et al. 2015,
    10.1609/aaai.v29i1.9602, with equal mass as in Nguyen and O'Connor 2015, arXiv 1508.05154)."""
    sure_N = expit(np.abs(margins_N))
    right_N = np.where(margins_N == 0, 0.5, margins_N > 0)
    parts = np.array_split(np.argsort(sure_N, kind="stable"), bins)
    gaps = [len(part) * abs(float(sure_N[part].mean() - right_N[part].mean())) for part in parts if len(part)]
    return sum(gaps) / len(margins_N)


def _cross_fitted(rows: Sequence[Judged]) -> list[Judged] | None:
    """Margins of each half of the raters at the other half's temperature."""
    halves = [[row for row in rows if _half(row.rater) == number] for number in (0, 1)]
    slopes = [fit_slope(np.array([row.margin for row in half])) for half in halves]
    if any(slope is None or slope <= 0 for slope in slopes):
        return None
    return [
        replace(row, margin=row.margin * slope)
        for half, slope in zip(halves, reversed(slopes), strict=True)
        if slope is not None
        for row in half
    ]


def _half(rater: str) -> int:
    return hashlib.sha256(rater.encode()).digest()[0] % 2
