"""Style control: what counts as style, and that its part of choices is found where it is known."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import Tensor, nn

from tests.support.training import make_base, make_message, make_settings, make_short_pairs
from trainer.data import Preference
from trainer.losses.preference import bradley_terry
from trainer.methods import reward
from trainer.rewards.style import COVARIATES, PRIOR_DEVIATION, StyleControl, style_difference, style_of

SIDES = (lambda pair: pair.chosen, lambda pair: pair.rejected)
TRUE_S = (1.2, -0.8, 0.0, 0.5)  # log-odds per standard deviation


def swapped(pair: Preference) -> Preference:
    return replace(pair, chosen=pair.rejected, rejected=pair.chosen)


def simulated(worth_P: np.ndarray | float = 0.0, *, pairs: int = 8000, seed: int = 0) -> tuple[Tensor, np.ndarray]:
    """Differences of style, each of deviation 1, winner less loser; and +1 where what was drawn first won."""
    rng = np.random.default_rng(seed)
    z_PS = rng.normal(size=(pairs, len(COVARIATES)))
    z_PS /= np.sqrt((z_PS**2).mean(0))
    sign_P = np.where(rng.random(pairs) < expit(worth_P + z_PS @ np.array(TRUE_S)), 1.0, -1.0)
    return torch.tensor(z_PS * sign_P[:, None]), sign_P


def test_coefficients_beside_scores_are_recovered_from_simulated_choices() -> None:
    """The score here is a slope on what the content is known to be worth; both are fitted together."""
    worth_P = np.random.default_rng(1).normal(size=8000)
    differences_PS, sign_P = simulated(worth_P)
    content_P = torch.tensor(worth_P * sign_P)
    control = StyleControl(differences_PS, torch.ones(8000, dtype=torch.float64))
    slope = nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = torch.optim.LBFGS([slope, *control.parameters()], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = bradley_terry(slope * content_P + control(differences_PS)).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose([control.report()[name] for name in COVARIATES], TRUE_S, atol=0.1)
    assert float(slope.detach()) == pytest.approx(1.0, abs=0.1)


def test_it_begins_where_style_alone_explains_the_choices_best() -> None:
    """A logistic regression: the likelihood's slope there is the prior's."""
    differences_PS, _ = simulated()
    control = StyleControl(differences_PS, torch.ones(8000, dtype=torch.float64))
    np.testing.assert_allclose(list(control.report().values()), TRUE_S, atol=0.1)
    bradley_terry(control(differences_PS)).sum().backward()
    prior = control.coefficients_S.detach() / PRIOR_DEVIATION**2
    torch.testing.assert_close(control.coefficients_S.grad, -prior, rtol=1e-6, atol=1e-9)


def test_a_choice_of_weight_two_is_the_choice_twice() -> None:
    differences_PS = torch.tensor([[0.5, 0, 0, 0], [-0.5, 0, 0, 0], [0.5, 0, 0, 0]], dtype=torch.float64)
    twice = StyleControl(differences_PS, torch.ones(3, dtype=torch.float64)).report()
    assert StyleControl(differences_PS[:2], torch.tensor([2.0, 1.0]).double()).report() == pytest.approx(twice)


def test_always_taking_the_longer_answer_has_a_finite_coefficient() -> None:
    differences_PS = torch.tensor([[0.4, 0.0, 0.0, 0.0]] * 50)
    found = StyleControl(differences_PS, torch.ones(50)).report()
    assert 1 < found["length"] < 10
    assert found["headers"] == 0


def test_headers_lists_and_bold_are_counted_outside_code() -> None:
    text = "# One\n\n- a\n* b\n1. c\n\nsome **bold** and __more__\n```\n# no header\n- no item\n```\n## Two"
    assert style_of(make_message(text), 30) == (30.0, 2.0, 3.0, 2.0)


def test_an_answer_without_text_has_a_length_only() -> None:
    assert style_of({"role": "assistant", "tool_calls": []}, 7) == (7.0, 0.0, 0.0, 0.0)


def test_differences_are_relative_and_change_sign_with_the_sides() -> None:
    first, second = (30.0, 2.0, 0.0, 1.0), (10.0, 0.0, 0.0, 3.0)
    assert style_difference(first, second) == pytest.approx((0.5, 1.0, 0.0, -0.5))
    assert style_difference(second, first) == pytest.approx(tuple(-value for value in (0.5, 1.0, 0.0, -0.5)))


def test_what_style_explains_is_not_in_the_scores(tmp_path: Path) -> None:
    """Three in four choose the shorter answer: without control the score says so, with it the coefficient does."""
    rng = random.Random(0)
    votes = [pair if rng.random() < 0.75 else swapped(pair) for pair in make_short_pairs(96)]
    gaps = {}
    for control in (False, True):
        settings = make_settings(reward_style_control=control, reward_epochs=2)
        model = reward.train(
            make_base(tmp_path), votes, [], name="reward", settings=settings, seed=0, features=False
        )  # fmt: skip
        short, long = ([(pair.prompt, side(pair)) for pair in make_short_pairs(40, seed=1)] for side in SIDES)
        gaps[control] = float((model.score(short) - model.score(long)).mean())
    assert abs(gaps[True]) < 0.4 * gaps[False]
    assert model.style_coefficients["length"] < -0.3
    assert list(model.style_coefficients) == list(COVARIATES)
