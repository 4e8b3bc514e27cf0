"""RLOO's gradient is REINFORCE with the others' mean as baseline, KL in the reward."""

from pathlib import Path

import torch

from tests.support.policy import make_context, make_talkative
from tests.support.training import disturb
from trainer.batches import all_logprobs
from trainer.losses.policy import Whole
from trainer.methods.rloo import Rloo
from trainer.model import adapter_parameters, using
from trainer.on_policy import Drawer
from trainer.updating import forward, score


def test_the_first_gradient_is_reinforce_s_with_the_penalty_in_the_reward(tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    disturb(base, "policy")
    context = make_context(base, tmp_path, policy_beta=0.5, policy_minibatch=24, policy_truncate=1e9)
    scored, learner = score(context, Drawer(context).take(0)), Rloo(context)
    learner.study(scored)
    everyone = list(range(len(scored.rows)))
    with using(base, "policy"):
        learner.loss(forward(context, scored, everyone), Whole(len(everyone), 1, 1)).total.backward()
    found = [parameter.grad.clone() for parameter in adapter_parameters(base, "policy")]
    base.model.zero_grad()
    with using(base, None):
        anchor = torch.stack([logps.sum() for logps in all_logprobs(base, scored.rows)])
    sampled = torch.stack([logps.sum() for logps in scored.samples.sampler_logps])
    rewards = (scored.rewards_S - 0.5 * (sampled - anchor)).view(-1, 4)
    baselines = (rewards.sum(1, keepdim=True) - rewards) / 3
    with using(base, "policy"):
        logps = [base.model(torch.tensor([[*row.prompt, *row.answer]])).logits.log_softmax(-1) for row in scored.rows]
        picked = [
            table[0, len(row.prompt) - 1 : -1].gather(-1, torch.tensor(row.answer)[:, None]).sum()
            for table, row in zip(logps, scored.rows, strict=True)
        ]
        (-(torch.stack(picked) * (rewards - baselines).flatten()).mean()).backward()
    for mine, parameter in zip(found, adapter_parameters(base, "policy"), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-2, atol=1e-5)
