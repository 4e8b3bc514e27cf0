"""Objectives on judgements, against closed forms, SciPy and TRL."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import torch
from torch import Tensor

from trainer.losses.preference import (
    bradley_terry,
    centring_loss,
    dpo_loss,
    ipo_loss,
    kto_loss,
    kto_reference_point,
    kto_weights,
    tie_loss,
)
from trainer.losses.tokens import weighted_mean


def test_bradley_terry_is_trl_s_reward_loss() -> None:
    chosen, rejected = torch.randn(8), torch.randn(8)
    trl = -torch.nn.functional.logsigmoid(chosen - rejected).mean()  # trl 1.16, reward_trainer.py: compute_loss
    torch.testing.assert_close(bradley_terry(chosen - rejected).mean(), trl)


def test_bradley_terry_is_a_logistic_regression_on_the_margin() -> None:
    margins = np.linspace(-30, 30, 13)
    found = bradley_terry(torch.tensor(margins)).numpy()
    np.testing.assert_allclose(found, -scipy.special.log_expit(margins), rtol=1e-12)


def test_a_margin_is_what_the_first_score_must_be_above_the_second_by() -> None:
    """Touvron et al. 2023, arXiv 2307.09288, equation 2, and its derivative by the scores' difference."""
    margins = torch.linspace(-9, 9, 13, dtype=torch.float64, requires_grad=True)
    asked = torch.tensor([0.0, 0.5, 3.0], dtype=torch.float64).repeat(5)[:13]
    loss = bradley_terry(margins, asked_B=asked)
    loss.sum().backward()
    differences = (margins - asked).detach().numpy()
    np.testing.assert_allclose(loss.detach().numpy(), np.log1p(np.exp(-differences)), rtol=1e-9)
    np.testing.assert_allclose(margins.grad.numpy(), -scipy.special.expit(-differences), rtol=1e-9)


def test_a_margin_shifts_davidson_s_wins_as_well() -> None:
    margins, log_tie = torch.linspace(-4, 4, 9, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    found = bradley_terry(margins, log_tie, asked_B=1.5)
    torch.testing.assert_close(found, bradley_terry(margins - 1.5, log_tie), rtol=1e-9, atol=0)


def test_centring_costs_the_squared_sum_and_pulls_both_scores_alike() -> None:
    first, second = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (1.25, -0.5))
    loss = centring_loss(first, second)
    loss.sum().backward()
    assert float(loss.detach()) == pytest.approx(0.75**2, rel=1e-9)
    assert float(first.grad) == float(second.grad) == pytest.approx(1.5, rel=1e-9)


def test_scores_and_tie_rate_fitted_by_the_losses_are_scipy_s_maximum_of_the_likelihood() -> None:
    """Davidson 1970 on weighted wins and ties of four players: torch's minimum against an optimiser of its own."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, 400), rng.integers(0, 4, 400)
    outcome = rng.choice(["win", "tie"], 400, p=[0.8, 0.2])
    weights = rng.uniform(0.1, 3, 400)

    def likelihood(parameters: np.ndarray) -> float:
        strengths, nu = np.exp(np.append(0.0, parameters[:3])), np.exp(parameters[3])
        both = np.sqrt(strengths[first] * strengths[second])
        total = strengths[first] + strengths[second] + nu * both
        chances = np.where(outcome == "win", strengths[first], nu * both) / total
        return float(-(weights * np.log(chances)).sum() / weights.sum())

    expected = scipy.optimize.minimize(likelihood, np.zeros(4), tol=1e-12)
    found = fit_davidson(
        torch.tensor(first), torch.tensor(second), torch.tensor(outcome == "tie"), torch.tensor(weights)
    )
    np.testing.assert_allclose(found, expected.x, atol=1e-4)


def fit_davidson(first: Tensor, second: Tensor, tied: Tensor, weights: Tensor) -> np.ndarray:
    """Scores of players 1 to 3 (player 0 has none) and log nu, by the trainer's own losses."""
    parameters = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        scores = torch.cat([torch.zeros(1, dtype=torch.float64), parameters[:3]])
        margins, log_tie = scores[first] - scores[second], parameters[3]
        losses = torch.where(tied, tie_loss(margins, log_tie), bradley_terry(margins, log_tie))
        loss = weighted_mean(losses, weights)
        loss.backward()
        return loss

    optimizer.step(closure)
    return parameters.detach().numpy()


def test_davidson_s_three_outcomes_have_probability_one() -> None:
    margins, log_tie = torch.linspace(-4, 4, 9), torch.tensor(0.3)
    outcomes = [bradley_terry(margins, log_tie), bradley_terry(-margins, log_tie), tie_loss(margins, log_tie)]
    torch.testing.assert_close(sum((-loss).exp() for loss in outcomes), torch.ones(9))


def test_davidson_s_tie_has_its_closed_form() -> None:
    margin, nu = 1.2, 0.7
    expected = nu / (math.exp(margin / 2) + math.exp(-margin / 2) + nu)
    found = tie_loss(torch.tensor([margin]), torch.tensor(math.log(nu)))
    assert math.exp(-float(found)) == pytest.approx(expected)


def test_without_ties_davidson_becomes_bradley_terry() -> None:
    margins = torch.randn(5)
    torch.testing.assert_close(bradley_terry(margins, torch.tensor(-30.0)), bradley_terry(margins))


def test_a_tie_pulls_scores_together() -> None:
    margin = torch.tensor([2.0], requires_grad=True)
    tie_loss(margin, torch.tensor(0.0)).sum().backward()
    assert margin.grad is not None
    assert float(margin.grad) > 0


def ratios(seed: int = 0, count: int = 9) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    chosen, rejected = 3 * torch.randn(2, count, generator=generator, dtype=torch.float64)
    return chosen.requires_grad_(), rejected.requires_grad_()


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
def test_dpo_and_its_gradient_have_their_closed_form(beta: float) -> None:
    """Rafailov et al. 2023, the gradient below equation 7: -beta * sigmoid(-beta * margin), up and down."""
    chosen, rejected = ratios()
    loss = dpo_loss(chosen, rejected, beta=beta)
    loss.sum().backward()
    margins = (chosen - rejected).detach().numpy()
    np.testing.assert_allclose(loss.detach().numpy(), -scipy.special.log_expit(beta * margins), rtol=1e-9)
    np.testing.assert_allclose(chosen.grad.numpy(), -beta * scipy.special.expit(-beta * margins), rtol=1e-9)
    np.testing.assert_allclose(rejected.grad.numpy(), beta * scipy.special.expit(-beta * margins), rtol=1e-9)


def test_smoothed_dpo_is_the_expected_loss_of_a_rater_who_errs() -> None:
    chosen, rejected = ratios()
    found = dpo_loss(chosen, rejected, beta=0.3, label_smoothing=0.2)
    expected = 0.8 * dpo_loss(chosen, rejected, beta=0.3) + 0.2 * dpo_loss(rejected, chosen, beta=0.3)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_smoothed_dpo_is_least_where_the_margin_says_how_often_raters_err() -> None:
    """P(right) = sigmoid(beta * margin) = .8 there."""
    margin = torch.tensor([math.log(0.8 / 0.2) / 0.3], dtype=torch.float64, requires_grad=True)
    dpo_loss(margin, torch.zeros(1, dtype=torch.float64), beta=0.3, label_smoothing=0.2).sum().backward()
    assert float(margin.grad.abs()) < 1e-12


@pytest.mark.parametrize("beta", [0.05, 1.0])
def test_ipo_regresses_to_half_the_inverse_of_beta(beta: float) -> None:
    chosen, rejected = ratios()
    loss = ipo_loss(chosen, rejected, beta=beta)
    loss.sum().backward()
    distance = (chosen - rejected).detach().numpy() - 1 / (2 * beta)
    np.testing.assert_allclose(loss.detach().numpy(), distance**2, rtol=1e-9)
    np.testing.assert_allclose(chosen.grad.numpy(), 2 * distance, rtol=1e-9)


@pytest.mark.parametrize("reference_point", [0.0, 1.7])
def test_kto_and_its_gradient_have_their_closed_form(reference_point: float) -> None:
    """Ethayarajh et al. 2024, equation 8: the loss falls as liked answers rise above z, and others fall below it."""
    found, _ = ratios()
    liked = torch.arange(len(found)) % 3 == 0
    loss = kto_loss(found, liked, torch.tensor(reference_point, dtype=torch.float64), beta=0.3)
    loss.sum().backward()
    sign = np.where(liked.numpy(), 1.0, -1.0)
    value = scipy.special.expit(0.3 * sign * (found.detach().numpy() - reference_point))
    np.testing.assert_allclose(loss.detach().numpy(), 1 - value, rtol=1e-9)
    np.testing.assert_allclose(found.grad.numpy(), -0.3 * sign * value * (1 - value), rtol=1e-9)


def test_the_reference_point_is_never_negative_and_carries_no_gradient() -> None:
    mismatched = torch.tensor([-3.0, 1.0], requires_grad=True)
    assert float(kto_reference_point(mismatched)) == 0.0
    found = kto_reference_point(mismatched + 5)
    assert float(found) == 4.0
    assert not found.requires_grad


def test_both_kinds_of_thumbs_weigh_the_same_in_sum() -> None:
    liked, weights = torch.tensor([True, True, True, False]), torch.tensor([1.0, 2.0, 1.0, 1.0])
    desirable, undesirable = kto_weights(liked, weights)
    assert desirable * 4 == pytest.approx(undesirable * 1)
    assert max(desirable, undesirable) == 1.0
    assert kto_weights(liked[:3], weights[:3]) == (1.0, 1.0)


@pytest.mark.parametrize(
    "loss", [bradley_terry, lambda m: dpo_loss(m, 0 * m, beta=0.1), lambda m: ipo_loss(m, 0 * m, beta=1)]
)
def test_a_row_of_weight_two_is_the_row_twice(loss: Any) -> None:
    rows = torch.randn(5, dtype=torch.float64)
    weighted = weighted_mean(loss(rows), torch.tensor([1.0, 2.0, 1.0, 1.0, 2.0], dtype=torch.float64))
    repeated = loss(torch.cat([rows, rows[[1, 4]]])).mean()
    torch.testing.assert_close(weighted, repeated, rtol=1e-9, atol=0)
