"""Who said what of which question, as arrays: all that reliability can be told from."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def sums(place_N: Ints, value_N: Floats | Bools, places: int) -> Floats:
    """For each place the sum of its values."""
    return np.bincount(place_N, weights=value_N, minlength=places).astype(np.float64)


@dataclass(frozen=True)
class Opinions:
    """N answers of R raters to I yes-or-no questions, such as "is the first of these two texts the better one?".

    `truth_I` is NaN but for check questions, where it is 0 or 1. Raters and questions are places, from 0 on.
    """

    rater_N: Ints
    item_N: Ints
    yes_N: Bools
    segment_N: Ints
    truth_I: Floats
    raters: int
    segments: int = 1

    @property
    def items(self) -> int:
        return len(self.truth_I)

    @cached_property
    def informative_N(self) -> Bools:
        """Answers to questions that more than one person has answered, or whose answer is known."""
        first = np.full(self.items, -1, dtype=np.int64)
        first[self.item_N] = self.rater_N
        shared = np.zeros(self.items, dtype=np.bool_)
        np.logical_or.at(shared, self.item_N, self.rater_N != first[self.item_N])
        return np.asarray((shared | ~np.isnan(self.truth_I))[self.item_N])

    @cached_property
    def pair_N(self) -> Ints:
        """The same number for the same person's answers to the same question."""
        return self.rater_N * max(1, self.items) + self.item_N

    def once(self) -> "Opinions":
        """One answer of a person to a question: what it said more often; as often yes as no is no answer."""
        pair_P, first_P, place_N = np.unique(self.pair_N, return_index=True, return_inverse=True)
        net_P = np.bincount(place_N, weights=np.where(self.yes_N, 1.0, -1.0), minlength=len(pair_P))
        said = net_P != 0
        first_P = first_P[said]
        return Opinions(
            self.rater_N[first_P], self.item_N[first_P], net_P[said] > 0, self.segment_N[first_P], self.truth_I,
            self.raters, self.segments,
        )  # fmt: skip

    def where(self, chosen_N: Bools) -> "Opinions":
        """Only these answers; raters and questions keep their places."""
        rater_N, item_N, yes_N = self.rater_N[chosen_N], self.item_N[chosen_N], self.yes_N[chosen_N]
        return Opinions(rater_N, item_N, yes_N, self.segment_N[chosen_N], self.truth_I, self.raters, self.segments)
