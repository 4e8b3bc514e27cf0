"""How much better than expected an answer, or a token of it, turned out to be."""

from typing import Literal

import torch
from torch import Tensor

from trainer.losses.tokens import masked_mean, masked_variance

STD_FLOOR = 1e-4  # as in TRL: equal rewards give zero advantages, not infinite ones
VARIANCE_FLOOR = 1e-8

Scale = Literal["group", "batch", "none"]


def group_advantages(rewards_PG: Tensor, scale: Scale = "group") -> Tensor:
    """(r - mean) / std within each prompt's samples. Shao et al. 2024, arXiv 2402.03300, section 4.1.2.

    `none` leaves out the division, which favours prompts that are nearly always or nearly never answered well (Liu et
    al. 2025, arXiv 2503.20783, section 3.1); `batch` divides by the standard deviation of all rewards.
    """
    centred_PG = rewards_PG - rewards_PG.mean(-1, keepdim=True)
    if scale == "none":
        return centred_PG
    std = rewards_PG.std(-1, keepdim=True) if scale == "group" else rewards_PG.std()
    return centred_PG / (std + STD_FLOOR)


def leave_one_out_advantages(rewards_PG: Tensor, *, normalise: bool = False) -> Tensor:
    """r minus the mean of the prompt's other samples. Ahmadian et al. 2024, arXiv 2402.14740, equation 8.

    `normalise` standardises over the batch afterwards, which is TRL's `normalize_advantages`.
    """
    others = rewards_PG.shape[-1] - 1
    baselines_PG = (rewards_PG.sum(-1, keepdim=True) - rewards_PG) / others
    advantages_PG = rewards_PG - baselines_PG
    return standardise(advantages_PG) if normalise else advantages_PG


def standardise(advantages: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over everything."""
    return (advantages - advantages.mean()) / (advantages.std() + STD_FLOOR)


def generalised_advantages(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, *, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """GAE: advantages and returns, both [B, T], zero behind each answer's end, where its episode is over.

    A_t = sum_l (gamma lam)^l delta_{t+l}, delta_t = r_t + gamma V_{t+1} - V_t. Schulman et al. 2015, arXiv 1506.02438,
    equation 16. Returns are A + V, what the value head is to learn.
    """
    values_BT = values_BT * mask_BT
    following_BT = torch.cat([values_BT[:, 1:], torch.zeros_like(values_BT[:, :1])], dim=1)
    deltas_BT = (rewards_BT + gamma * following_BT - values_BT) * mask_BT
    advantages_BT = torch.zeros_like(deltas_BT)
    running_B = torch.zeros_like(deltas_BT[:, 0])
    for t in reversed(range(deltas_BT.shape[1])):
        running_B = deltas_BT[:, t] + gamma * lam * running_B
        advantages_BT[:, t] = running_B
    return advantages_BT, advantages_BT + values_BT


def whiten(values_BT: Tensor, mask_BT: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Standard deviation 1 over the batch's tokens, and mean 0 unless `shift_mean` is off (as for rewards)."""
    mean = masked_mean(values_BT, mask_BT)
    whitened_BT = (values_BT - mean) * (masked_variance(values_BT, mask_BT) + VARIANCE_FLOOR).rsqrt()
    return (whitened_BT if shift_mean else whitened_BT + mean) * mask_BT
