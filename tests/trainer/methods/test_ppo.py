"""PPO: values are learnt, advantages come from them, the KL coefficient is steered, demonstrations are mixed in."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.policy import make_context, make_talkative
from tests.support.training import disturb, make_message, make_prompt
from trainer.batches import all_logprobs, encode
from trainer.data import Demonstration
from trainer.errors import StageFailed
from trainer.history import Trained
from trainer.losses.policy import Whole
from trainer.methods import ppo
from trainer.methods.policy import PolicyContext
from trainer.methods.ppo import Ppo
from trainer.model import Base, adapter_parameters, using
from trainer.on_policy import Drawer
from trainer.rewarding import Head, RewardModel
from trainer.rewards.ensemble import Ensemble
from trainer.updating import Scored, forward, score


def train(base: Base, directory: Path, **overrides: Any) -> Trained:
    return ppo.train(make_context(base, directory, **overrides))


def studied(context: PolicyContext) -> tuple[Ppo, Scored, dict[str, float]]:
    learner, scored = Ppo(context), score(context, Drawer(context).take(0))
    return learner, scored, learner.study(scored)


def test_values_come_to_say_what_answers_bring(tmp_path: Path) -> None:
    """With a policy that hardly moves, the value loss falls as the mean reward is learnt."""
    base = make_talkative(tmp_path, "policy")
    still = {"policy_learning_rate": 1e-6, "policy_beta": 0.0, "ppo_value_clip": 100.0, "reward_learning_rate": 3e-3}
    history = train(base, tmp_path, policy_steps=25, **still).history
    assert history[-1]["loss/value_avg"] < 0.5 * history[0]["loss/value_avg"]


def test_the_value_model_leaves_the_base_when_the_training_is_over(tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    train(base, tmp_path)
    assert not [name for name, _ in base.model.named_parameters() if "policy_value" in name]


def test_the_value_model_begins_with_what_the_reward_model_knows(tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy", "reward")
    disturb(base, "reward")
    learner = Ppo(
        make_context(base, tmp_path, reward=RewardModel(base, "reward", Head(base.hidden_size, features=False)))
    )
    assert all(map(torch.equal, adapter_parameters(base, "reward"), adapter_parameters(base, "policy_value")))
    learner.values.close()


def test_of_an_ensemble_the_value_model_begins_with_the_first_member(tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy", "reward_0", "reward_1")
    members = []
    for number, name in enumerate(("reward_0", "reward_1")):
        disturb(base, name, number)
        members.append(RewardModel(base, name, Head(base.hidden_size, features=False)))
    learner = Ppo(make_context(base, tmp_path, reward=Ensemble(members)))
    assert all(map(torch.equal, adapter_parameters(base, "reward_0"), adapter_parameters(base, "policy_value")))
    learner.values.close()


def test_the_score_is_at_the_end_and_the_penalty_on_each_token(tmp_path: Path) -> None:
    """With lambda and gamma 1 and a head of zeros, the first token's return is the score less beta times the KL."""
    base = make_talkative(tmp_path, "policy")
    disturb(base, "policy")
    context = make_context(base, tmp_path, policy_beta=0.3, ppo_lambda=1.0)
    learner, scored, said = studied(context)
    with using(base, "policy"):
        mine = all_logprobs(base, scored.rows)
    gaps = torch.stack([(m - a).sum() for m, a in zip(mine, scored.anchor_logps, strict=True)])
    expected = scored.rewards_S - 0.3 * gaps
    found = torch.stack([returns[0] for returns in learner._returns])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert said["objective/rlhf_reward"] == pytest.approx(float(expected.mean()), abs=1e-3)
    assert said["objective/kl_coef"] == 0.3


def test_advantages_are_whitened_over_the_step_s_tokens(tmp_path: Path) -> None:
    learner, _, _ = studied(make_context(make_talkative(tmp_path, "policy"), tmp_path))
    every = torch.cat(list(learner._advantages))
    assert abs(float(every.mean())) < 1e-4
    assert float(every.std()) == pytest.approx(1, abs=1e-3)


def test_the_coefficient_rises_while_kl_is_above_its_target(tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    disturb(base, "policy")
    learner, _, _ = studied(make_context(base, tmp_path, policy_beta=0.3, ppo_kl_target=1e-6))
    assert learner.kl.beta == pytest.approx(0.3 * 1.02)


def test_demonstrations_that_are_mixed_in_become_likelier(tmp_path: Path) -> None:
    shown = [Demonstration(make_prompt(), make_message("a list of the cosine")) for _ in range(16)]
    likelihoods = []
    for ptx in (0.0, 5.0):
        base = make_talkative(tmp_path, "policy")
        train(base, tmp_path, ppo_ptx=ptx, demonstrations=shown, policy_steps=6, policy_learning_rate=1e-2)
        with using(base, "policy"):
            likelihoods.append(
                float(all_logprobs(base, [encode(base, make_prompt(), "a list of the cosine")])[0].sum())
            )
    assert likelihoods[1] > likelihoods[0] + 5


def test_mixing_in_needs_demonstrations(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="no demonstrations"):
        train(make_talkative(tmp_path, "policy"), tmp_path, ppo_ptx=1.0)


def test_the_first_losses_are_those_of_the_definition(tmp_path: Path) -> None:
    """At the sampling policy -mean(A); with a head of zeros half the mean squared return."""
    context = make_context(make_talkative(tmp_path, "policy"), tmp_path)
    learner, scored, _ = studied(context)
    everyone, tokens = list(range(len(scored.rows))), sum(len(row.answer) for row in scored.rows)
    with using(context.base, "policy"):
        forwarded = forward(context, scored, everyone)
        found = learner.loss(forwarded, Whole(len(everyone), tokens, 12))
        found.total.backward()
    advantages, returns = torch.cat(list(learner._advantages)), torch.cat(list(learner._returns))
    torch.testing.assert_close(found.total.detach(), -advantages.mean(), rtol=1e-4, atol=1e-4)
    assert found.metrics["val/ratio"] == pytest.approx(1, abs=1e-4)
    beside = learner.beside(forwarded, Whole(len(everyone), tokens, 12))
    assert beside["loss/value_avg"] == pytest.approx(float(returns.square().mean()) / 2, rel=1e-4)
