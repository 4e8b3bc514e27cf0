"""How often each rater is right, from what others say of the same answers, from check questions and from themselves.

One-coin Dawid-Skene (Dawid and Skene 1979, 10.2307/2346806; one parameter a rater as in Zhang et al. 2016, JMLR 17,
section 2): a rater gives a question's true answer with a probability of its own. What was changed: that probability
has a Beta prior, its posterior mean is taken on a grid, and who contradicts himself gives evidence without any other
rater. The prior's mean above a half also tells right from wrong where no check question does.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from feedback.weighing.opinions import Bools, Floats, Ints, Opinions, sums

GRID_G = np.linspace(0.005, 0.995, 199)
ROWS = 20_000  # raters whose grids are held at once
SEGMENT_STRENGTH = 10.0  # answers that a rater's overall reliability counts for, beside those in one segment


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of a rater before any evidence: a Beta of this mean, worth `strength` answers."""

    mean: float = 0.75
    strength: float = 8.0


@dataclass(frozen=True)
class Reliability:
    """`p_R` is the probability that the rater is right; `answers_R` how many answers it was told from.

    `p_RS` is the same by segment, NaN where a rater has too few answers there. `truth_I` is how probably each
    question's answer is yes.
    """

    p_R: Floats
    answers_R: Ints
    p_RS: Floats
    truth_I: Floats


@dataclass(frozen=True)
class Repeats:
    """How often each rater, asked the same again, said the same and said otherwise."""

    same_R: Floats
    other_R: Floats


def estimate(
    opinions: Opinions, prior: Prior, *, segment_min: int = 10, rounds: int = 100, tolerance: float = 1e-4
) -> Reliability:
    """EM until no rater's reliability moves by more than `tolerance`, or `rounds` are over."""
    repeats = count_repeats(opinions)
    once = opinions.once()
    known = once.where(once.informative_N)
    p_R = np.full(opinions.raters, prior.mean)
    strength_R = np.full(opinions.raters, prior.strength)
    for _ in range(rounds):
        truth_I = _truth(known, p_R)
        right_R, wrong_R = _tally(known, truth_I, known.rater_N, opinions.raters)
        before, p_R = p_R, _posterior(right_R, wrong_R, np.full_like(p_R, prior.mean), strength_R, repeats)
        if np.abs(p_R - before).max(initial=0.0) < tolerance:
            break
    answers_R = np.bincount(known.rater_N, minlength=opinions.raters)
    return Reliability(p_R, answers_R, _by_segment(known, p_R, segment_min), _truth(once, p_R))


def count_repeats(opinions: Opinions) -> Repeats:
    """Of each rater's answers to one question every further one is compared with those before."""
    pair_P, place_N = np.unique(opinions.pair_N, return_inverse=True)
    all_P = np.bincount(place_N, minlength=len(pair_P))
    yes_P = sums(place_N, opinions.yes_N, len(pair_P))
    rater_P = pair_P // max(1, opinions.items)
    other_P = np.minimum(yes_P, all_P - yes_P)
    same_P = all_P - 1 - other_P
    return Repeats(sums(rater_P, same_P, opinions.raters), sums(rater_P, other_P, opinions.raters))


def _truth(opinions: Opinions, p_R: Floats) -> Floats:
    """Each answer is worth its rater's log odds; yes and no are as likely beforehand. A known truth stays."""
    odds_N = np.where(opinions.yes_N, 1.0, -1.0) * logit(p_R)[opinions.rater_N]
    odds_I = sums(opinions.item_N, odds_N, opinions.items)
    return np.where(np.isnan(opinions.truth_I), expit(odds_I), opinions.truth_I)


def _tally(opinions: Opinions, truth_I: Floats, place_N: Ints, places: int) -> tuple[Floats, Floats]:
    """Expected right and wrong answers by place."""
    truth_N = truth_I[opinions.item_N]
    right_N = np.where(opinions.yes_N, truth_N, 1 - truth_N)
    right = sums(place_N, right_N, places)
    return right, np.bincount(place_N, minlength=places) - right


def _posterior(right_R: Floats, wrong_R: Floats, mean_R: Floats, strength_R: Floats, repeats: Repeats | None) -> Floats:
    """The posterior mean on the grid, some raters at a time."""
    p_R = np.empty(len(right_R))
    sure_G, unsure_G = np.log(GRID_G**2 + (1 - GRID_G) ** 2), np.log(2 * GRID_G * (1 - GRID_G))
    for at in range(0, len(p_R), ROWS):
        some = slice(at, at + ROWS)
        a_R = right_R[some] + mean_R[some] * strength_R[some] - 1
        b_R = wrong_R[some] + (1 - mean_R[some]) * strength_R[some] - 1
        log_RG = np.outer(a_R, np.log(GRID_G)) + np.outer(b_R, np.log(1 - GRID_G))
        if repeats is not None:
            log_RG += np.outer(repeats.same_R[some], sure_G) + np.outer(repeats.other_R[some], unsure_G)
        weight_RG = np.exp(log_RG - log_RG.max(axis=1, keepdims=True))
        p_R[some] = weight_RG @ GRID_G / weight_RG.sum(axis=1)
    return p_R


def _by_segment(opinions: Opinions, p_R: Floats, segment_min: int) -> Floats:
    """A rater's overall reliability is the prior of each segment's."""
    places = len(p_R) * opinions.segments
    place_N = opinions.rater_N * opinions.segments + opinions.segment_N
    right, wrong = _tally(opinions, _truth(opinions, p_R), place_N, places)
    mean, strength = np.repeat(p_R, opinions.segments), np.full(places, SEGMENT_STRENGTH)
    p = _posterior(right, wrong, mean, strength, None)
    enough: Bools = right + wrong >= segment_min
    return np.where(enough, p, np.nan).reshape(len(p_R), opinions.segments)
