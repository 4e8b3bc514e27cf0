"""Means of paired answers with intervals that respect that answers about one subject are alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, its percentile bootstrap interval, and over how many subjects and answers."""

    value: float
    lo: float
    hi: float
    subjects: int
    answers: int

    @property
    def ci(self) -> list[float]:
        return [round(self.lo, 4), round(self.hi, 4)]


def by_subject(values: Mapping[str, Sequence[float]], *, bootstraps: int, seed: int = 0) -> Estimate:
    """The mean of all values; whole subjects are drawn with replacement, since their answers are not independent.

    Raises ValueError where there is nothing to average.
    """
    if not any(len(each) for each in values.values()):
        raise ValueError("no answers to compare")
    sums_S = np.array([sum(each) for each in values.values()], dtype=float)
    counts_S = np.array([len(each) for each in values.values()], dtype=float)
    means_B = _resampled(sums_S, counts_S, bootstraps, seed)
    tail = 100 * (1 - LEVEL) / 2
    lo, hi = np.percentile(means_B, [tail, 100 - tail])
    return Estimate(float(sums_S.sum() / counts_S.sum()), float(lo), float(hi), len(values), int(counts_S.sum()))


def _resampled(
    sums_S: NDArray[np.float64], counts_S: NDArray[np.float64], bootstraps: int, seed: int
) -> NDArray[np.float64]:
    drawn_BS = np.random.default_rng(seed).integers(0, len(sums_S), size=(bootstraps, len(sums_S)))
    totals: NDArray[np.float64] = sums_S[drawn_BS].sum(axis=1) / np.maximum(counts_S[drawn_BS].sum(axis=1), 1)
    return totals
