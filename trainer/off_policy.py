"""A candidate's vote rate, estimated from votes on other policies' answers.

A vote is on an answer y to a prompt x, drawn by the policy pi_v of the arm v that its rater was in. Its weight is that
of the whole sequence, w = pi(y|x) / pi_v(y|x), conditional on the arm. Whatever chance the arm had, the mean of
w f(x, y) over pi_v's answers is the candidate's own mean of f at x, as long as pi_v can say all that the candidate can:
so rows of several arms are simply put together ("IPS" of Agarwal et al. 2017, arXiv 1703.06180, section 3). The chance
of the arm matters only where other arms' rows can't be used, since then it decides which prompts are seen: the caller
divides each row's mass by it. That paper's balanced weights pi / sum_v p(v) pi_v vary less, but need each answer's
log-probability under every arm, of which only its own is logged.

What is estimated is P(up | voted), a ratio over voted answers: sum(w up) / sum(w) is the candidate's share of ups among
votes even where how often people vote depends on the answer, provided that they would vote on the candidate's answers
as they did on the same words before. The mean weight of voted answers times the logged voting rate is the candidate's
voting rate, for the same reason. One person's votes are not independent of each other: the rater is the cluster.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from infra.contracts.manifests import Interval
from trainer.intervals import LEVEL

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LARGEST_LOG = 700.0  # a float64 holds no more; any cap is far below


@dataclass(frozen=True)
class Votes:
    """N votes. `rater_N` counts from 0; `mass_N`: what a vote counts, over the chance of its arm where that matters."""

    up_N: Floats
    behaviour_N: Floats  # nats of the whole answer, under what it was drawn from
    candidate_N: Floats
    rater_N: Ints
    mass_N: Floats

    @property
    def cap(self) -> float:
        """sqrt(N), of weights whose mean is 1: truncated importance sampling, Ionides 2008, 10.1198/106186008X320456.

        The bias that it brings vanishes as N grows, and no single answer can be the whole estimate.
        """
        return math.sqrt(len(self.up_N))

    @property
    def weight_N(self) -> Floats:
        """Importance weights, cut at the cap."""
        return np.minimum(self._uncut_N, self.cap)

    @property
    def clipped(self) -> float:
        """Share of votes whose weight was cut."""
        return float(np.mean(self._uncut_N > self.cap))

    @property
    def _uncut_N(self) -> Floats:
        ratio_N: Floats = np.exp(np.minimum(self.candidate_N - self.behaviour_N, LARGEST_LOG))
        return ratio_N

    @property
    def effective_size(self) -> float:
        """How many votes on the candidate's own answers would say as much: (sum w)^2 / sum w^2 (Kong 1992)."""
        return kish(self.weight_N * self.mass_N)


@dataclass(frozen=True)
class Estimate:
    """`value` as it is; `centre` and `moves_C` with one more unit at each extreme, so that unanimity is no certainty.

    `moves_C` is what each rater, and each such unit, adds to the centre's error; `raters` how many equal ones would
    have as much weight, of the `count` that have any.
    """

    value: float
    centre: float
    moves_C: Floats
    raters: float
    count: int

    def __add__(self, other: "Estimate") -> "Estimate":
        return self._joined(other, 1.0)

    def __sub__(self, other: "Estimate") -> "Estimate":
        return self._joined(other, -1.0)

    def _joined(self, other: "Estimate", sign: float) -> "Estimate":
        """Of the same raters; the added units are each estimate's own."""
        moves_C = self.moves_C + sign * other.moves_C
        moves_C[-2:] = np.hypot(self.moves_C[-2:], other.moves_C[-2:])
        value, centre = self.value + sign * other.value, self.centre + sign * other.centre
        return Estimate(value, centre, moves_C, min(self.raters, other.raters), max(self.count, other.count))

    def interval(self, lo: float, hi: float, level: float = LEVEL) -> Interval | None:
        """Delta method by rater, Student's with as many degrees of freedom as equal raters; None below two of them."""
        if not self.raters >= 2:
            return None
        error = math.sqrt(float(np.square(self.moves_C).sum()) * self.raters / (self.raters - 1))
        half = float(stdtrit(self.raters - 1, 0.5 + level / 2)) * error
        below, above = max(lo, self.centre - half), min(hi, self.centre + half)
        return Interval(value=self.value, lo=below, hi=above, n=self.count, level=level)


def ratio(top_N: Floats, bottom_N: Floats, rater_N: Ints, extremes: tuple[float, float] = (0.0, 1.0)) -> Estimate:
    """sum(top) / sum(bottom). `bottom_N` is not negative and not all zero."""
    raters = int(rater_N.max()) + 1
    top_R, bottom_R = (np.bincount(rater_N, part_N, raters).astype(np.float64) for part_N in (top_N, bottom_N))
    effective = kish(bottom_R)
    unit = bottom_R.sum() / effective  # one more rater of the usual weight
    top_C = np.concatenate([top_R, [extremes[0] * unit, extremes[1] * unit]])
    bottom_C = np.concatenate([bottom_R, [unit, unit]])
    centre = top_C.sum() / bottom_C.sum()
    moves_C = (top_C - centre * bottom_C) / bottom_C.sum()
    value, count = float(top_R.sum() / bottom_R.sum()), int(np.count_nonzero(bottom_R))
    return Estimate(value, float(centre), moves_C, effective, count)


def plain(votes: Votes, among_N: NDArray[np.bool_]) -> Estimate:
    """The rate of some of the votes as they were cast: 0 of the mass of the others counts."""
    mass_N = votes.mass_N * among_N
    return ratio(mass_N * votes.up_N, mass_N, votes.rater_N)


def ips(votes: Votes) -> Estimate:
    """mean(w up): Horvitz and Thompson 1952. Of P(up | voted) only where people vote on all answers equally often."""
    found = ratio(votes.mass_N * votes.weight_N * votes.up_N, votes.mass_N, votes.rater_N)
    return replace(found, raters=snips(votes).raters)


def snips(votes: Votes) -> Estimate:
    """sum(w up) / sum(w), self-normalised: Swaminathan and Joachims 2015, NeurIPS 28, equation 9."""
    mass_N = votes.mass_N * votes.weight_N
    return ratio(mass_N * votes.up_N, mass_N, votes.rater_N)


def doubly_robust(votes: Votes, guess_N: Floats, guess_candidate_N: Floats) -> Estimate:
    """mean(q of the candidate's answers) + sum(w (up - q)) / sum(w): Dudik, Langford and Li 2011, arXiv 1103.4601,
    equation 1, its correction self-normalised (Thomas and Brunskill 2016, arXiv 1604.00923, section 4).

    `guess_N` is what a model that did not see the vote's rater holds likely of the logged answer, `guess_candidate_N`
    of the candidate's own answer to the same prompt. Right where either weights or guesses are, and of P(up | voted)
    where people vote on all answers equally often.
    """
    mass_N = votes.mass_N * votes.weight_N
    direct = ratio(votes.mass_N * guess_candidate_N, votes.mass_N, votes.rater_N)
    return direct + ratio(mass_N * (votes.up_N - guess_N), mass_N, votes.rater_N, (-1.0, 1.0))


def mean_weight(votes: Votes) -> float:
    """By what the logged voting rate is to be multiplied."""
    return float((votes.mass_N * votes.weight_N).sum() / votes.mass_N.sum())


def kish(weight_N: Floats) -> float:
    """How many equal ones would weigh as much; 0 of nothing."""
    if not weight_N.any():
        return 0.0
    scaled_N = weight_N / weight_N.max()  # squares of tiny ones would be nothing
    return float(scaled_N.sum()) ** 2 / float(np.square(scaled_N).sum())
