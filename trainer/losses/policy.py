"""Objectives on the policy's own samples: the clipped surrogate of PPO, GRPO and RLOO, the value loss, and KL."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trainer.losses.tokens import masked_sum

Average = Literal["bnpo", "grpo", "dr_grpo"]


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
class Forward:
    """The policy's log-probabilities now, with gradient, and what stays fixed while it moves.

    `importance` is [B, T], or [B, 1] where the whole answer is one action.
    """

    logps_BT: Tensor
    old_logps_BT: Tensor
    importance: Tensor
    mask_BT: Tensor


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """Of each token, or of each answer as [B, 1]. `losses` carries the gradient, `kl` and `bitten` are for the log."""

    losses: Tensor
    kl: Tensor
    bitten: Tensor


def clipped_surrogate(log_ratios: Tensor, advantages: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """min(r A, clip(r) A), and where the clip bites. Schulman et al. 2017, arXiv 1707.06347, equation 7."""
    ratios = log_ratios.exp()
    clipped = ratios.clamp(1 - clip, 1 + clip) * advantages
    return torch.min(ratios * advantages, clipped), clipped < ratios * advantages


@dataclass(frozen=True, slots=True)
class Whole:
    """How many answers and tokens a minibatch has, however it is cut into forwards or shared among processes."""

    answers: int
    tokens: int
    longest: int  # the most tokens that an answer may have


def answer_weights(lengths_B: Tensor, whole: Whole, how: Average) -> Tensor:
    """What one token of each answer weighs, so that the sum over the minibatch is its average; names are TRL's.

    `bnpo`: mean over all tokens. `grpo`: mean per answer, then over answers (Shao et al. 2024, equation 3), which
    favours short wrong answers (Yu et al. 2025, arXiv 2503.14476, section 3.3). `dr_grpo`: sum over the number of
    answers times the most tokens that one may have (Liu et al. 2025, arXiv 2503.20783, section 3.2).
    """
    if how == "grpo":
        return 1 / (whole.answers * lengths_B.clamp(min=1))
    return torch.ones_like(lengths_B) / (whole.tokens if how == "bnpo" else whole.answers * whole.longest)


def grpo_loss(
    now: Forward, advantages_B: Tensor, reference_logps_BT: Tensor, *, clip: float, beta: float
) -> PolicyLoss:
    """Clipped surrogate times the importance weight, plus beta * k3. Shao et al. 2024, arXiv 2402.03300, equation 3."""
    surrogate_BT, bitten_BT = clipped_surrogate(now.logps_BT - now.old_logps_BT, advantages_B[:, None], clip)
    kl_BT = kl_k3(now.logps_BT, reference_logps_BT)
    return PolicyLoss(beta * kl_BT - now.importance * surrogate_BT, kl_BT.detach(), bitten_BT)


def rloo_loss(now: Forward, advantages_B: Tensor, *, clip: float) -> PolicyLoss:
    """The whole answer is one action: one ratio, and one loss, per answer; all [B, 1].

    Ahmadian et al. 2024, arXiv 2402.14740, section 3; KL is in the reward there, not in the loss. The clip is PPO's,
    for more than one update on the same samples.
    """
    moved_B1 = masked_sum(now.logps_BT - now.old_logps_BT, now.mask_BT)[:, None]
    surrogate_B1, bitten_B1 = clipped_surrogate(moved_B1, advantages_B[:, None], clip)
    return PolicyLoss(-now.importance * surrogate_B1, moved_B1.detach().square() / 2, bitten_B1)


def ppo_loss(now: Forward, advantages_BT: Tensor, *, clip: float) -> PolicyLoss:
    """Clipped surrogate of each token. Schulman et al. 2017, arXiv 1707.06347, equation 7.

    `kl` is to the policy that the samples were scored with: half the squared log-ratio, TRL's `policy/approxkl_avg`.
    """
    moved_BT = now.logps_BT - now.old_logps_BT
    surrogate_BT, bitten_BT = clipped_surrogate(moved_BT, advantages_BT, clip)
    return PolicyLoss(-now.importance * surrogate_BT, moved_BT.detach().square() / 2, bitten_BT)


def value_loss(values_BT: Tensor, old_values_BT: Tensor, returns_BT: Tensor, *, clip: float) -> tuple[Tensor, Tensor]:
    """Half the squared error of each token, the worse of the value's and of the one clipped to its old; and where.

    As PPO is implemented (Huang et al. 2022, "The 37 implementation details of PPO", 9); the paper has no clip here.
    """
    clipped_BT = torch.clamp(values_BT, old_values_BT - clip, old_values_BT + clip)
    plain_BT, held_BT = (values_BT - returns_BT).square(), (clipped_BT - returns_BT).square()
    return torch.max(plain_BT, held_BT) / 2, held_BT > plain_BT


@dataclass(slots=True)
class AdaptiveKL:
    """Ziegler et al. 2019, arXiv 1909.08593, section 2.2: beta grows while KL is above its target, and shrinks below.

    Without a target it stays. `beta` is per nat of an answer's KL.
    """

    beta: float
    target: float | None = None
    rate: float = 0.1
    clip: float = 0.2

    def observe(self, kl: float) -> None:
        if self.target is not None:
            error = min(max(kl / self.target - 1, -self.clip), self.clip)
            self.beta *= 1 + self.rate * error

    def state_dict(self) -> dict[str, float]:
        return {"beta": self.beta}

    def load_state_dict(self, state: dict[str, float], /) -> None:
        self.beta = state["beta"]
