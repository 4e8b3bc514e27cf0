"""The objectives as pure functions over tensors. Axes: B answers, T tokens, P prompts, G samples of one, V vocabulary.

All sums are taken in float32; two correct float32 sums of 512 log-probabilities differ by up to 5e-4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

STD_FLOOR = 1e-4  # as in TRL: equal rewards give zero advantages, not infinite ones


def token_logprobs(logits_NV: Tensor, tokens_N: Tensor) -> Tensor:
    """log p(token) at each of N positions; no V-sized result is kept."""
    logits_NV = logits_NV.float()
    return logits_NV.gather(-1, tokens_N[:, None])[:, 0] - logits_NV.logsumexp(-1)


def masked_sum(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Per answer."""
    return (values_BT * mask_BT).sum(-1)


def masked_mean(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Over all tokens of the batch; 0 where the mask is empty."""
    return (values_BT * mask_BT).sum() / mask_BT.sum().clamp(min=1)


def weighted_mean(losses_B: Tensor, weights_B: Tensor) -> Tensor:
    """sum(w * l) / sum(w)."""
    return (losses_B * weights_B).sum() / weights_B.sum().clamp(min=1e-12)


def bradley_terry(margins_B: Tensor, log_tie: Tensor | None = None) -> Tensor:
    """-log P(first wins), margins = score(first) - score(second). Bradley & Terry 1952, 10.2307/2334029.

    `log_tie` is Davidson's log nu (1970, 10.1080/01621459.1970.10481082): P(win) = e^{m/2} / (e^{m/2} + e^{-m/2} + nu).
    None means that ties can't happen (nu = 0).
    """
    if log_tie is None:
        return -functional.logsigmoid(margins_B)
    return _davidson_normaliser(margins_B, log_tie) - margins_B / 2


def tie_loss(margins_B: Tensor, log_tie: Tensor) -> Tensor:
    """-log P(tie) under Davidson's model: nu / (e^{m/2} + e^{-m/2} + nu)."""
    return _davidson_normaliser(margins_B, log_tie) - log_tie


def group_advantages(rewards_PG: Tensor) -> Tensor:
    """(r - mean) / std within each prompt's samples. Shao et al. 2024, arXiv 2402.03300."""
    centred = rewards_PG - rewards_PG.mean(-1, keepdim=True)
    return centred / (rewards_PG.std(-1, keepdim=True) + STD_FLOOR)


def kl_k3(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """Per-token estimate of KL(policy || reference), never negative: Schulman 2020, http://joschu.net/blog/kl-approx.html."""
    difference = reference_logps - logps
    return difference.exp() - difference - 1


def truncated_importance(old_logps: Tensor, sampler_logps: Tensor, cap: float) -> Tensor:
    """min(pi_old / pi_sampler, cap) per token: the trainer and the engine round differently.

    Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training".
    """
    return (old_logps - sampler_logps).exp().clamp(max=cap)


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """`loss` carries the gradient; the rest are numbers for the log."""

    loss: Tensor
    kl: float
    clip_fraction: float


def grpo_loss(
    logps_BT: Tensor,
    old_logps_BT: Tensor,
    advantages_B: Tensor,
    mask_BT: Tensor,
    *,
    reference_logps_BT: Tensor,
    importance_BT: Tensor,
    clip: float,
    beta: float,
) -> PolicyLoss:
    """Clipped surrogate times the importance weight, plus beta * k3; mean over the batch's tokens (TRL's "bnpo").

    Shao et al. 2024, arXiv 2402.03300, equation 3, but for the mean: theirs is per answer first, which favours short
    wrong answers (Yu et al. 2025, arXiv 2503.14476, section 3.3).
    """
    ratio_BT = (logps_BT - old_logps_BT).exp()
    clipped_BT = ratio_BT.clamp(1 - clip, 1 + clip)
    advantages_BT = advantages_B[:, None]
    surrogate_BT = torch.min(ratio_BT * advantages_BT, clipped_BT * advantages_BT)
    kl_BT = kl_k3(logps_BT, reference_logps_BT)
    loss = masked_mean(beta * kl_BT - importance_BT * surrogate_BT, mask_BT)
    bitten_BT = (clipped_BT * advantages_BT < ratio_BT * advantages_BT).float()
    return PolicyLoss(loss, float(masked_mean(kl_BT.detach(), mask_BT)), float(masked_mean(bitten_BT, mask_BT)))


def _davidson_normaliser(margins_B: Tensor, log_tie: Tensor) -> Tensor:
    sides = torch.stack([margins_B / 2, -margins_B / 2, log_tie.expand_as(margins_B)])
    return sides.logsumexp(0)
