"""What a vote is guessed to be comes from other raters' votes, by a fit that SciPy finds too."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from trainer.off_policy import Floats, Votes
from trainer.vote_model import FOLDS, PRIOR, cross_fitted, fit


def make_votes(up_N: Floats, rater_N: np.ndarray) -> Votes:
    zeros_N = np.zeros(len(up_N))
    return Votes(up_N, zeros_N, zeros_N, rater_N, np.ones(len(up_N)))


def test_the_fit_is_the_mode_that_a_general_optimiser_finds() -> None:
    rng = np.random.default_rng(0)
    score_N, mass_N = rng.normal(size=80), rng.uniform(0.5, 2, 80)
    up_N = (rng.random(80) < expit(0.5 + score_N)).astype(float)

    def loss(at: Floats) -> float:
        chance_N = expit(at[0] + at[1] * score_N)
        likelihood_N = up_N * np.log(chance_N) + (1 - up_N) * np.log1p(-chance_N)
        return float(-(mass_N * likelihood_N).sum() + PRIOR / 2 * (at @ at))

    expected = minimize(loss, np.zeros(2), tol=1e-12)
    assert fit(score_N, up_N, mass_N) == pytest.approx(expected.x, abs=1e-4)


def test_a_fit_of_nothing_knows_nothing() -> None:
    assert fit(np.zeros(0), np.zeros(0), np.zeros(0)) == pytest.approx([0, 0])


def test_separable_votes_have_a_finite_fit() -> None:
    found = fit(np.array([-1.0, 1.0] * 20), np.array([0.0, 1.0] * 20), np.ones(40))
    assert 0 < found[1] < 10


def test_a_raters_own_votes_have_no_say_in_what_is_guessed_of_them() -> None:
    rng = np.random.default_rng(1)
    rater_N, score_N, own_NS = np.arange(40) % 10, rng.normal(size=40), rng.normal(size=(40, 2))
    up_N = (rng.random(40) < 0.5).astype(float)
    before, own_before = cross_fitted(make_votes(up_N, rater_N), score_N, own_NS)
    fold_N = rater_N % FOLDS == 0
    after, own_after = cross_fitted(make_votes(np.where(fold_N, 1 - up_N, up_N), rater_N), score_N, own_NS)
    assert after[fold_N] == pytest.approx(before[fold_N])
    assert own_after[fold_N] == pytest.approx(own_before[fold_N])
    assert after[~fold_N] != pytest.approx(before[~fold_N])


def test_guesses_rise_with_the_score_where_votes_do() -> None:
    score_N = np.linspace(-2, 2, 50)
    votes = make_votes((score_N > 0).astype(float), np.arange(50))
    guess_N, own_N = cross_fitted(votes, score_N, np.stack([score_N, score_N + 1], axis=1))
    assert np.corrcoef(guess_N, score_N)[0, 1] > 0.9
    assert (own_N > guess_N).all()
