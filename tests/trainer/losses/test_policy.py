"""The surrogates, the value loss and KL, against closed forms and against TRL's own code."""

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.trl import import_trl
from trainer.losses.policy import (
    AdaptiveKL,
    Forward,
    Whole,
    answer_weights,
    grpo_loss,
    kl_k3,
    ppo_loss,
    rloo_loss,
    truncated_importance,
    value_loss,
)


def grpo(inputs: dict[str, Tensor], *, clip: float, beta: float, how: Any = "bnpo", longest: int = 0) -> Tensor:
    """The whole loss as the trainer takes it: a sum of what each token weighs."""
    mask = inputs["mask_BT"]
    now = Forward(inputs["logps_BT"], inputs["old_logps_BT"], inputs["importance_BT"], mask)
    found = grpo_loss(now, inputs["advantages_B"], inputs["reference_logps_BT"], clip=clip, beta=beta)
    whole = Whole(len(mask), int(mask.sum()), longest)
    return (found.losses * mask * answer_weights(mask.sum(-1), whole, how)[:, None]).sum()


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


def trl_grpo_loss(
    inputs: dict[str, Tensor], *, clip: float, beta: float, loss_type: str = "bnpo", longest: int = 0
) -> Tensor:
    """TRL's `_compute_loss` itself, its model replaced by the log-probabilities that it would compute."""
    trainer = import_trl("trl.trainer.grpo_trainer").GRPOTrainer

    stub = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: (
            inputs["logps_BT"], torch.zeros_like(inputs["logps_BT"]), None
        ),
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None),
        accelerator=SimpleNamespace(gather=lambda it: it, reduce=lambda it, reduction: it, num_processes=1),
        model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list)},
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None,
        importance_sampling_level="token", beta=beta,
        loss_type=loss_type, max_completion_length=longest, epsilon_low=clip, epsilon_high=clip,
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
    found: Tensor = trainer._compute_loss(stub, None, batch)
    return found


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
    found = grpo({**inputs, "logps_BT": mine}, clip=clip, beta=beta)
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
    grpo(inputs, clip=0.2, beta=0.1).backward()
    torch.testing.assert_close(logps.grad, -advantages[:, None].expand(2, 2) / 4)


def test_a_ratio_beyond_the_clip_gives_no_gradient_where_it_would_go_further() -> None:
    logps = torch.tensor([[0.5]], requires_grad=True)
    inputs = make_policy_inputs(
        logps_BT=logps, old_logps_BT=torch.zeros(1, 1), advantages_B=torch.ones(1), mask_BT=torch.ones(1, 1),
        reference_logps_BT=torch.zeros(1, 1), importance_BT=torch.ones(1, 1),
    )  # fmt: skip
    grpo(inputs, clip=0.2, beta=0.0).backward()
    assert float(logps.grad) == 0


def test_masked_tokens_touch_neither_loss_nor_gradient() -> None:
    inputs = make_policy_inputs()
    logps = inputs["logps_BT"].clone().requires_grad_()
    found = grpo({**inputs, "logps_BT": logps}, clip=0.2, beta=0.04)
    found.backward()
    assert (logps.grad[inputs["mask_BT"] == 0] == 0).all()
    wild = {**inputs, "logps_BT": torch.where(inputs["mask_BT"] > 0, inputs["logps_BT"], inputs["logps_BT"] - 3)}
    torch.testing.assert_close(grpo(wild, clip=0.2, beta=0.04), found.detach())


@pytest.mark.parametrize("how", ["grpo", "bnpo", "dr_grpo"])
def test_the_grpo_loss_is_trl_s_however_it_averages(how: str) -> None:
    inputs, gradients = make_policy_inputs(), []
    mine, theirs = (inputs["logps_BT"].clone().requires_grad_() for _ in range(2))
    found = grpo({**inputs, "logps_BT": mine}, clip=0.2, beta=0.04, how=how, longest=9)
    expected = trl_grpo_loss({**inputs, "logps_BT": theirs}, clip=0.2, beta=0.04, loss_type=how, longest=9)
    for loss, logps in ((found, mine), (expected, theirs)):
        loss.backward()
        gradients.append(logps.grad)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("how", ["grpo", "bnpo", "dr_grpo"])
def test_each_average_weighs_the_answers_of_a_full_minibatch_with_one(how: Any) -> None:
    lengths = torch.full((3,), 4.0)
    weights = answer_weights(lengths, Whole(answers=3, tokens=12, longest=4), how)
    assert float((weights * lengths).sum()) == pytest.approx(1)


def trl_rloo_loss(inputs: dict[str, Tensor], *, clip: float) -> Tensor:
    """TRL's `_compute_loss` itself, its model replaced by the log-probabilities that it would compute."""
    trainer = import_trl("trl.trainer.rloo_trainer").RLOOTrainer
    stub = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: (
            inputs["logps_BT"], torch.zeros_like(inputs["logps_BT"]), None
        ),
        accelerator=SimpleNamespace(gather=lambda it: it, reduce=lambda it, reduction: it),
        model=SimpleNamespace(training=True), _metrics={"train": defaultdict(list)},
        aux_loss_enabled=False, epsilon_low=clip, epsilon_high=clip,
    )  # fmt: skip
    answers = torch.zeros(inputs["logps_BT"].shape, dtype=torch.long)
    batch = {
        "prompt_ids": answers[:, :1],
        "prompt_mask": torch.ones_like(answers[:, :1]),
        "completion_ids": answers,
        "completion_mask": inputs["mask_BT"],
        "advantages": inputs["advantages_B"],
        "old_logps": (inputs["old_logps_BT"] * inputs["mask_BT"]).sum(-1),
    }
    found: Tensor = trainer._compute_loss(stub, None, batch)
    return found


@pytest.mark.parametrize("clip", [0.05, 0.2, 1e6])
def test_the_rloo_loss_and_its_gradient_are_trl_s(clip: float) -> None:
    """Without importance weights, which TRL's has not."""
    inputs = make_policy_inputs()
    mine, theirs = (inputs["logps_BT"].clone().requires_grad_() for _ in range(2))
    now = Forward(mine, inputs["old_logps_BT"], torch.ones(4, 1).double(), inputs["mask_BT"])
    found = rloo_loss(now, inputs["advantages_B"], clip=clip).losses.mean()
    expected = trl_rloo_loss({**inputs, "logps_BT": theirs}, clip=clip)
    found.backward()
    expected.backward()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-9, atol=1e-15)


def policy_gradient_inputs() -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in make_policy_inputs().items()}


@pytest.mark.parametrize("clip", [0.05, 0.2, 1e6])
def test_the_rloo_loss_and_its_gradient_have_their_closed_form(clip: float) -> None:
    inputs, plain = make_policy_inputs(), policy_gradient_inputs()
    logps, importance = inputs["logps_BT"].clone().requires_grad_(), torch.tensor([1.0, 0.5, 1.2, 0.9]).double()
    found = rloo_loss(
        Forward(logps, inputs["old_logps_BT"], importance[:, None], inputs["mask_BT"]),
        inputs["advantages_B"],
        clip=clip,
    )
    loss = found.losses.mean()
    loss.backward()
    ratios = np.exp(((plain["logps_BT"] - plain["old_logps_BT"]) * plain["mask_BT"]).sum(1))
    advantages, free = plain["advantages_B"], ratios * plain["advantages_B"]
    held = np.clip(ratios, 1 - clip, 1 + clip) * advantages
    np.testing.assert_allclose(float(loss.detach()), -(importance.numpy() * np.minimum(free, held)).mean(), rtol=1e-9)
    slope = np.where(held < free, 0.0, -importance.numpy() * free / 4)
    np.testing.assert_allclose(logps.grad.numpy(), slope[:, None] * plain["mask_BT"], rtol=1e-9, atol=1e-15)
    assert found.bitten[:, 0].tolist() == (held < free).tolist()


@pytest.mark.parametrize("clip", [0.05, 0.2, 1e6])
def test_the_ppo_loss_and_its_gradient_have_their_closed_form(clip: float) -> None:
    inputs, plain = make_policy_inputs(), policy_gradient_inputs()
    advantages = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    logps = inputs["logps_BT"].clone().requires_grad_()
    found = ppo_loss(
        Forward(logps, inputs["old_logps_BT"], inputs["importance_BT"], inputs["mask_BT"]), advantages, clip=clip
    )
    loss = (found.losses * inputs["mask_BT"]).sum() / inputs["mask_BT"].sum()
    loss.backward()
    mask, scale = plain["mask_BT"], plain["importance_BT"] / plain["mask_BT"].sum()
    difference = plain["logps_BT"] - plain["old_logps_BT"]
    free = np.exp(difference) * advantages.numpy()
    held = np.clip(np.exp(difference), 1 - clip, 1 + clip) * advantages.numpy()
    np.testing.assert_allclose(float(loss.detach()), -(scale * np.minimum(free, held) * mask).sum(), rtol=1e-9)
    slope = np.where(held < free, 0.0, -scale * free) * mask
    np.testing.assert_allclose(logps.grad.numpy(), slope, rtol=1e-9, atol=1e-15)
    assert found.bitten.tolist() == (held < free).tolist()
    np.testing.assert_allclose(found.kl.numpy(), difference**2 / 2, rtol=1e-9)


@pytest.mark.parametrize("clip", [0.1, 1e6])
def test_the_value_loss_and_its_gradient_have_their_closed_form(clip: float) -> None:
    generator = torch.Generator().manual_seed(2)
    values, old, returns = torch.randn(3, 4, 6, generator=generator, dtype=torch.float64)
    values = values.requires_grad_()
    found, bitten = value_loss(values, old, returns, clip=clip)
    found.sum().backward()
    v, o, r = (tensor.detach().numpy() for tensor in (values, old, returns))
    plain, held = (v - r) ** 2, (np.clip(v, o - clip, o + clip) - r) ** 2
    np.testing.assert_allclose(found.detach().numpy(), np.maximum(plain, held) / 2, rtol=1e-9)
    slope = np.where((held > plain) & (np.abs(v - o) > clip), 0.0, v - r)
    np.testing.assert_allclose(values.grad.numpy(), slope, rtol=1e-9, atol=1e-15)
    assert bitten.tolist() == (held > plain).tolist()


def test_the_kl_coefficient_follows_its_target() -> None:
    """Ziegler et al. 2019, section 2.2: steps are proportional to the error, which counts for .2 at most."""
    controller = AdaptiveKL(beta=0.1, target=6.0)
    controller.observe(6.6)
    assert controller.beta == pytest.approx(0.1 * (1 + 0.1 * 0.1))
    controller.observe(100.0)
    controller.observe(0.0)
    assert controller.beta == pytest.approx(0.1 * 1.01 * 1.02 * 0.98)


def test_without_a_target_the_kl_coefficient_stays() -> None:
    controller = AdaptiveKL(beta=0.1)
    controller.observe(100.0)
    assert controller.beta == 0.1
