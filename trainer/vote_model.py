"""How likely an answer is voted up, told from a reward model's score: a logistic fit that never sees its own rater."""

import numpy as np
from scipy.special import expit

from trainer.off_policy import Floats, Votes

FOLDS = 5
PRIOR = 1.0  # of both coefficients, as a normal's precision: a fit of nothing says one half
NEWTON_STEPS = 50


def cross_fitted(votes: Votes, score_N: Floats, own_NS: Floats) -> tuple[Floats, Floats]:
    """P(up) of each logged answer, and the mean of it over S answers of the candidate's to the same prompt.

    Each by a fit on the votes of other raters.
    """
    every_NC = np.concatenate([score_N[:, None], own_NS], axis=1)
    scaled_NC = (every_NC - score_N.mean()) / max(float(score_N.std()), 1e-9)
    fold_N, guess_NC = votes.rater_N % FOLDS, np.empty_like(scaled_NC)
    for fold in range(FOLDS):
        others_N = fold_N != fold
        found_2 = fit(scaled_NC[others_N, 0], votes.up_N[others_N], votes.mass_N[others_N])
        guess_NC[~others_N] = expit(found_2[0] + found_2[1] * scaled_NC[~others_N])
    return guess_NC[:, 0], guess_NC[:, 1:].mean(axis=1)


def fit(score_N: Floats, up_N: Floats, mass_N: Floats) -> Floats:
    """Intercept and slope at the mode, by Newton's method: the likelihood with its prior is strictly concave."""
    design_N2, found_2 = np.stack([np.ones_like(score_N), score_N], axis=1), np.zeros(2)
    for _ in range(NEWTON_STEPS):
        chance_N = expit(design_N2 @ found_2)
        slope_2 = design_N2.T @ (mass_N * (up_N - chance_N)) - PRIOR * found_2
        bend_22 = (design_N2.T * (mass_N * chance_N * (1 - chance_N))) @ design_N2 + PRIOR * np.eye(2)
        step_2 = np.linalg.solve(bend_22, slope_2)
        found_2 = found_2 + step_2
        if np.abs(step_2).max() < 1e-10:
            break
    return found_2
