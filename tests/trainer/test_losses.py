"""The objectives against closed forms and against TRL's own code."""

import math
import warnings
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import torch
from torch import Tensor

from trainer.losses import (
    bradley_terry,
    group_advantages,
    grpo_loss,
    kl_k3,
    masked_mean,
    masked_sum,
    tie_loss,
    token_logprobs,
    truncated_importance,
    weighted_mean,
)


def make_policy_inputs(**overrides: Tensor) -> dict[str, Tensor]:
    """Four answers of at most six tokens, with every ratio away from 1."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    logps = -draw(4, 6).abs()
    inputs = {
        "logps_BT": logps,
        "old_logps_BT": logps + 0.3 * draw(4, 6),
        "advantages_B": draw(4),
        "mask_BT": (torch.arange(6) < torch.tensor([6, 3, 1, 5])[:, None]).double(),
        "reference_logps_BT": logps + 0.5 * draw(4, 6),
        "importance_BT": (0.2 * draw(4, 6)).exp().clamp(max=1.2),
    }
    return {**inputs, **overrides}


def trl_grpo_loss(inputs: dict[str, Tensor], *, clip: float, beta: float) -> Tensor:
    """TRL's `_compute_loss` itself, its model replaced by the log-probabilities that it would compute."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TRL's own import warns of experimental parts
        patch.setattr(import_module("trl.import_utils"), "is_vllm_available", lambda **_: False)  # slow to load
        from trl.trainer.grpo_trainer import GRPOTrainer

    class Metrics(dict[str, Any]):
        def __missing__(self, key: str) -> list[float]:
            return self.setdefault(key, [])

    stub = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: (
            inputs["logps_BT"], torch.zeros_like(inputs["logps_BT"]), None
        ),
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None),
        accelerator=SimpleNamespace(gather=lambda it: it, reduce=lambda it, reduction: it, num_processes=1),
        model=SimpleNamespace(training=True),
        _metrics={"train": Metrics(), "eval": Metrics()},
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None,
        importance_sampling_level="token", beta=beta, loss_type="bnpo", epsilon_low=clip, epsilon_high=clip,
        use_vllm=True, vllm_importance_sampling_correction=True, current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False, use_adaptive_entropy=False,
    )  # fmt: skip
    answers = torch.zeros(inputs["logps_BT"].shape, dtype=torch.long)
    batch = {
        "prompt_ids": answers[:, :1],
        "prompt_mask": torch.ones_like(answers[:, :1]),
        "completion_ids": answers,
        "completion_mask": inputs["mask_BT"],
        "advantages": inputs["advantages_B"],
        "old_per_token_logps": inputs["old_logps_BT"],
        "ref_per_token_logps": inputs["reference_logps_BT"],
        "importance_sampling_ratio": inputs["importance_BT"],
    }
    found: Tensor = GRPOTrainer._compute_loss(stub, None, batch)
    return found


def test_token_logprobs_are_the_log_softmax_at_the_tokens() -> None:
    logits, tokens = torch.randn(5, 9), torch.tensor([0, 8, 3, 3, 1])
    expected = logits.log_softmax(-1)[torch.arange(5), tokens]
    torch.testing.assert_close(token_logprobs(logits, tokens), expected)


def test_token_logprobs_of_half_precision_logits_are_taken_in_float32() -> None:
    logits = torch.randn(3, 9).bfloat16()
    assert token_logprobs(logits, torch.tensor([1, 2, 3])).dtype == torch.float32


def test_masked_sums_and_means_ignore_what_is_masked() -> None:
    values, mask = torch.tensor([[1.0, 2.0, 50.0], [3.0, 50.0, 50.0]]), torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert masked_sum(values, mask).tolist() == [3.0, 3.0]
    assert float(masked_mean(values, mask)) == 2.0
    assert float(masked_mean(values, torch.zeros_like(mask))) == 0.0


def test_a_weighted_mean_divides_by_the_weights() -> None:
    assert float(weighted_mean(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 1.0]))) == pytest.approx(7 / 4)


def test_scaling_all_weights_changes_no_loss() -> None:
    losses, weights = torch.rand(6), torch.rand(6)
    torch.testing.assert_close(weighted_mean(losses, weights), weighted_mean(losses, 10 * weights))


def test_bradley_terry_is_trl_s_reward_loss() -> None:
    chosen, rejected = torch.randn(8), torch.randn(8)
    trl = -torch.nn.functional.logsigmoid(chosen - rejected).mean()  # trl 1.16, reward_trainer.py: compute_loss
    torch.testing.assert_close(bradley_terry(chosen - rejected).mean(), trl)


def test_bradley_terry_is_a_logistic_regression_on_the_margin() -> None:
    margins = np.linspace(-30, 30, 13)
    found = bradley_terry(torch.tensor(margins)).numpy()
    np.testing.assert_allclose(found, -scipy.special.log_expit(margins), rtol=1e-12)


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


def test_advantages_are_standardised_within_each_group() -> None:
    advantages = group_advantages(torch.tensor([[1.0, 2.0, 3.0], [10.0, 10.0, 13.0]]))
    torch.testing.assert_close(advantages.mean(-1), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(advantages.std(-1), torch.ones(2), atol=1e-3, rtol=0)


def test_advantages_are_trl_s() -> None:
    """trl 1.16, grpo_trainer.py: (rewards - mean_grouped) / (std_grouped + 1e-4), the standard deviation over n - 1."""
    rewards = np.random.default_rng(0).normal(size=(5, 8))
    expected = (rewards - rewards.mean(1, keepdims=True)) / (rewards.std(1, ddof=1, keepdims=True) + 1e-4)
    np.testing.assert_allclose(group_advantages(torch.tensor(rewards)).numpy(), expected, rtol=1e-9)


def test_equal_rewards_teach_nothing() -> None:
    assert group_advantages(torch.full((2, 4), 3.0)).abs().max() == 0


def test_k3_is_never_negative_and_unbiased_for_the_kl() -> None:
    logps, reference = torch.randn(2, 7, dtype=torch.float64).log_softmax(-1)
    estimates = kl_k3(logps, reference)
    assert (estimates >= 0).all()
    expected = (logps.exp() * (logps - reference)).sum()
    torch.testing.assert_close((logps.exp() * estimates).sum(), expected)


def test_k3_is_schulman_s_estimator() -> None:
    """http://joschu.net/blog/kl-approx.html: (r - 1) - log r with r = p_reference / p_policy."""
    logps, reference = -4 * torch.rand(2, 50, dtype=torch.float64)
    ratio = (reference - logps).exp()
    torch.testing.assert_close(kl_k3(logps, reference), (ratio - 1) - ratio.log())
    assert float(kl_k3(logps, logps).abs().max()) == 0


def test_importance_weights_are_capped_from_above_only() -> None:
    weights = truncated_importance(torch.tensor([0.0, 5.0, -5.0]), torch.zeros(3), cap=2.0)
    torch.testing.assert_close(weights, torch.tensor([1.0, 2.0, math.exp(-5)]))


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("clip", [0.05, 0.2, 1e6])
def test_the_grpo_loss_and_its_gradient_are_trl_s(beta: float, clip: float) -> None:
    """Ratios beyond the clip on both sides, truncated importance weights, the k3 penalty, a mask."""
    inputs, gradients = make_policy_inputs(), []
    mine, theirs = (inputs["logps_BT"].clone().requires_grad_() for _ in range(2))
    found = grpo_loss(**{**inputs, "logps_BT": mine}, clip=clip, beta=beta).loss
    expected = trl_grpo_loss({**inputs, "logps_BT": theirs}, clip=clip, beta=beta)
    for loss, logps in ((found, mine), (expected, theirs)):
        loss.backward()
        gradients.append(logps.grad)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-15)


def test_at_the_sampling_policy_the_gradient_is_reinforce_s() -> None:
    logps = torch.tensor([[-1.0, -2.0], [-0.5, -0.1]], requires_grad=True)
    advantages, mask = torch.tensor([1.0, -2.0]), torch.ones(2, 2)
    inputs = make_policy_inputs(
        logps_BT=logps, old_logps_BT=logps.detach(), advantages_B=advantages, mask_BT=mask,
        reference_logps_BT=logps.detach(), importance_BT=torch.ones(2, 2),
    )  # fmt: skip
    grpo_loss(**inputs, clip=0.2, beta=0.1).loss.backward()
    torch.testing.assert_close(logps.grad, -advantages[:, None].expand(2, 2) / 4)


def test_a_ratio_beyond_the_clip_gives_no_gradient_where_it_would_go_further() -> None:
    logps = torch.tensor([[0.5]], requires_grad=True)
    inputs = make_policy_inputs(
        logps_BT=logps, old_logps_BT=torch.zeros(1, 1), advantages_B=torch.ones(1), mask_BT=torch.ones(1, 1),
        reference_logps_BT=torch.zeros(1, 1), importance_BT=torch.ones(1, 1),
    )  # fmt: skip
    found = grpo_loss(**inputs, clip=0.2, beta=0.0)
    found.loss.backward()
    assert float(logps.grad) == 0
    assert found.clip_fraction == 1.0


def test_masked_tokens_touch_neither_loss_nor_gradient() -> None:
    inputs = make_policy_inputs()
    logps = inputs["logps_BT"].clone().requires_grad_()
    found = grpo_loss(**{**inputs, "logps_BT": logps}, clip=0.2, beta=0.04)
    found.loss.backward()
    assert (logps.grad[inputs["mask_BT"] == 0] == 0).all()
    wild = {**inputs, "logps_BT": torch.where(inputs["mask_BT"] > 0, inputs["logps_BT"], inputs["logps_BT"] - 3)}
    torch.testing.assert_close(grpo_loss(**wild, clip=0.2, beta=0.04).loss, found.loss.detach())
