"""PPO: Schulman et al. 2017, arXiv 1707.06347, as used by Ouyang et al. 2022, arXiv 2203.02155.

Each token is an action. Its reward is -beta * (log pi_old - log pi_anchor), and the reward model's score is added at
the answer's end; advantages are GAE's. What differs: a truncated pi_old / pi_sampler, since the engine that sampled
rounds its own way.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.batches import pad
from trainer.checkpoints import Stateful
from trainer.history import Trained
from trainer.lines import Encoded
from trainer.loop import Course
from trainer.losses.advantages import generalised_advantages, whiten
from trainer.losses.policy import AdaptiveKL, Whole, ppo_loss
from trainer.losses.tokens import masked_mean, masked_sum
from trainer.methods.policy import PolicyContext
from trainer.methods.sft import BATCH, Row, encoded_rows, sft_loss
from trainer.rewarding import Reward
from trainer.updating import Forwarded, Learner, Loss, Scored, compared, figures, own_logprobs, train_on_samples
from trainer.value import ValueModel


def train(context: PolicyContext) -> Trained:
    learner = Ppo(context)
    try:
        return train_on_samples(context, learner)
    finally:
        learner.values.close()


class Ppo(Learner):
    _scored: Scored
    _old_logps: Sequence[Tensor]
    _old_values: Sequence[Tensor]
    _advantages: Sequence[Tensor]
    _returns: Sequence[Tensor]

    def __init__(self, context: PolicyContext) -> None:
        super().__init__(context)
        settings, reward = context.settings, context.reward
        self._pretraining = _pretraining(context)
        self.kl = AdaptiveKL(settings.policy_beta, settings.ppo_kl_target or None)
        like = reward.name if isinstance(reward, Reward) else None
        self.values = ValueModel(context.base, f"{context.adapter}_value", settings, like=like, seed=context.seed)

    def study(self, scored: Scored) -> dict[str, float]:
        """Rewards and advantages of each token, under the policy as it samples."""
        settings, rows = self._context.settings, scored.rows
        self._scored, self._old_logps = scored, own_logprobs(self._context, rows)
        self._old_values = self.values.values(rows)
        lengths_S = torch.tensor([len(row.answer) for row in rows])
        mask_ST = ((torch.arange(int(lengths_S.max())) < lengths_S[:, None]) & scored.kept_S[:, None]).float()
        gaps = [mine - anchor for mine, anchor in zip(self._old_logps, scored.anchor_logps, strict=True)]
        gaps_ST, values_ST = (
            pad([tensor.cpu() for tensor in tensors], mask_ST.shape[1]) for tensors in (gaps, self._old_values)
        )
        rewards_ST = -self.kl.beta * gaps_ST
        rewards_ST[torch.arange(len(rows)), lengths_S - 1] += scored.rewards_S
        said = {"objective/rlhf_reward": float(rewards_ST.sum(-1).mean()), "objective/kl_coef": self.kl.beta}
        if settings.ppo_whiten_rewards:
            rewards_ST = whiten(rewards_ST, mask_ST, shift_mean=False)
        advantages_ST, returns_ST = generalised_advantages(
            rewards_ST, values_ST, mask_ST, gamma=settings.ppo_gamma, lam=settings.ppo_lambda
        )
        self._advantages, self._returns = _cut(whiten(advantages_ST, mask_ST), rows), _cut(returns_ST, rows)
        if scored.kept_S.any():
            self.kl.observe(float(masked_sum(gaps_ST, mask_ST)[scored.kept_S].mean()))
        return said

    def loss(self, forwarded: Forwarded, whole: Whole) -> Loss:
        settings = self._context.settings
        now = compared(self._context, forwarded, self._scored, self._old_logps)
        found = ppo_loss(now, forwarded.fixed(self._advantages), clip=settings.policy_clip)
        total = (found.losses * now.mask_BT).sum() / whole.tokens
        if self._pretraining is not None:
            share = len(forwarded.picked) / whole.answers
            total = total + settings.ppo_ptx * share * sft_loss(self._context.base, next(self._pretraining))
        named, ratio = figures(now, found), (now.logps_BT - now.old_logps_BT).detach().exp()
        named["policy/approxkl_avg"] = named.pop("kl")
        return Loss(total, {**named, "val/ratio": float(masked_mean(ratio, now.mask_BT))})

    def beside(self, forwarded: Forwarded, whole: Whole) -> dict[str, float]:
        old_BT, returns_BT = forwarded.fixed(self._old_values), forwarded.fixed(self._returns)
        return self.values.accumulate(forwarded.batch, old_BT, returns_BT, forwarded.counts / whole.tokens)

    def step(self) -> None:
        self.values.step()

    def state(self) -> dict[str, Stateful]:
        found: dict[str, Stateful] = {"kl": self.kl, "values": self.values}
        return found if self._pretraining is None else {**found, "pretraining": self._pretraining}


def _pretraining(context: PolicyContext) -> Course[Row] | None:
    """Demonstrations to mix in (Ouyang et al. 2022, equation 2), or None. Raises StageFailed where there are none."""
    if context.settings.ppo_ptx == 0:
        return None
    rows = encoded_rows(context.base, context.demonstrations, context.settings.max_length)
    return Course(rows, BATCH, seed=context.seed)


def _cut(values_ST: Tensor, rows: Sequence[Encoded]) -> list[Tensor]:
    return [values_T[: len(row.answer)] for values_T, row in zip(values_ST, rows, strict=True)]
