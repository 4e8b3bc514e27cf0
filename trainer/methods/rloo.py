"""RLOO: REINFORCE, each sample against the mean of the prompt's others. Ahmadian et al. 2024, arXiv 2402.14740.

The whole answer is one action with one reward, from which beta times its KL is taken (their equation 3). What differs:
a truncated pi_old / pi_sampler of the whole answer, since the engine that sampled rounds differently, and PPO's clip
where samples are used for more than one update.
"""

from collections.abc import Sequence

from torch import Tensor

from trainer.history import Trained
from trainer.lines import Encoded
from trainer.losses.advantages import leave_one_out_advantages
from trainer.losses.policy import Forward, Whole, rloo_loss, truncated_importance
from trainer.losses.tokens import masked_sum
from trainer.methods.policy import PolicyContext
from trainer.updating import Forwarded, Learner, Loss, Scored, figures, old_logprobs, train_on_samples


def train(context: PolicyContext) -> Trained:
    return train_on_samples(context, Rloo(context))


class Rloo(Learner):
    _scored: Scored
    _advantages_S: Tensor
    _old_logps: Sequence[Tensor] | None

    def study(self, scored: Scored) -> dict[str, float]:
        settings = self._context.settings
        penalised_S = scored.rewards_S - settings.policy_beta * scored.kl_S
        grouped_PG = penalised_S.view(-1, settings.policy_samples)
        self._scored, self._old_logps = scored, old_logprobs(self._context, scored.rows)
        advantages_PG = leave_one_out_advantages(grouped_PG, normalise=settings.policy_normalise_advantages)
        self._advantages_S = advantages_PG.flatten()
        return {"objective/rlhf_reward": float(penalised_S.mean())}

    def share_of(self, rows: Sequence[Encoded], whole: Whole) -> float:
        """In answers: each is one action."""
        return len(rows) / whole.answers

    def loss(self, forwarded: Forwarded, whole: Whole) -> Loss:
        settings = self._context.settings
        mask_BT = forwarded.batch.mask_BT.float()
        old_BT = forwarded.logps_BT.detach() if self._old_logps is None else forwarded.fixed(self._old_logps)
        sampler_BT = forwarded.fixed(self._scored.samples.sampler_logps)
        old_B1, sampler_B1 = (masked_sum(logps_BT, mask_BT)[:, None] for logps_BT in (old_BT, sampler_BT))
        importance_B1 = truncated_importance(old_B1, sampler_B1, settings.policy_truncate)
        now = Forward(forwarded.logps_BT, old_BT, importance_B1, mask_BT)
        advantages_B = self._advantages_S[forwarded.picked].to(mask_BT.device)
        found = rloo_loss(now, advantages_B, clip=settings.policy_clip)
        return Loss(found.losses.sum() / whole.answers, figures(now, found))
