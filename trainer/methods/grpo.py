"""GRPO: several samples per prompt, each against the mean of its own group. Shao et al. 2024, arXiv 2402.03300.

What differs from the paper: the loss is a mean over tokens unless `policy_average` says otherwise; the ratio is to
pi_old as the trainer computes it, times a truncated pi_old / pi_sampler, since the engine that sampled rounds its own
way.
"""

from collections.abc import Sequence

from torch import Tensor

from trainer.history import Trained
from trainer.losses.advantages import group_advantages
from trainer.losses.policy import Whole, answer_weights, grpo_loss
from trainer.methods.policy import PolicyContext
from trainer.updating import Forwarded, Learner, Loss, Scored, compared, figures, old_logprobs, train_on_samples


def train(context: PolicyContext) -> Trained:
    return train_on_samples(context, Grpo(context))


class Grpo(Learner):
    _scored: Scored
    _advantages_S: Tensor
    _old_logps: Sequence[Tensor] | None

    def study(self, scored: Scored) -> dict[str, float]:
        settings = self._context.settings
        rewards_PG = scored.rewards_S.view(-1, settings.policy_samples)
        self._scored, self._old_logps = scored, old_logprobs(self._context, scored.rows)
        self._advantages_S = group_advantages(rewards_PG, settings.policy_scale_rewards).flatten()
        return {"frac_reward_zero_std": float((rewards_PG.std(-1) == 0).float().mean())}

    def loss(self, forwarded: Forwarded, whole: Whole) -> Loss:
        settings = self._context.settings
        now = compared(self._context, forwarded, self._scored, self._old_logps)
        advantages_B = self._advantages_S[forwarded.picked].to(now.logps_BT.device)
        reference_BT = forwarded.fixed(self._scored.anchor_logps)
        found = grpo_loss(now, advantages_B, reference_BT, clip=settings.policy_clip, beta=settings.policy_beta)
        weights_B = answer_weights(now.mask_BT.sum(-1), whole, settings.policy_average)
        return Loss((found.losses * now.mask_BT * weights_B[:, None]).sum(), figures(now, found))
