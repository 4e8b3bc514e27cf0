"""GRPO on a tiny model: it follows the reward, stays near its anchor, and its gradient is what the paper says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.policy import NotingSampler, RuleReward, indifferent, make_context, make_talkative
from tests.support.training import disturb
from trainer import updating
from trainer.batches import all_logprobs
from trainer.history import Trained
from trainer.methods import grpo
from trainer.methods.grpo import Grpo
from trainer.methods.policy import PolicyContext
from trainer.model import Base, adapter_parameters, attach_adapter, copy_adapter, save_adapter, using
from trainer.on_policy import Drawer, Samples
from trainer.optimizing import Optimiser
from trainer.probes import PROBES
from trainer.updating import old_logprobs, score

METRICS = {
    "reward", "reward_std", "objective/kl", "kl", "loss", "policy/clipfrac_avg", "grad_norm", "completions/mean_length",
    "sampling/importance_sampling_ratio/mean", "frac_reward_zero_std", "completions/clipped_ratio", "time/sampling",
    "time/training", "guard/worth", "guard/best_step", *(f"guard/rate/{name}" for name in PROBES),
}  # fmt: skip


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return make_talkative(tmp_path, "policy")


def train(base: Base, directory: Path, **overrides: Any) -> Trained:
    return grpo.train(make_context(base, directory, **overrides))


def weights(base: Base, name: str = "policy") -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in adapter_parameters(base, name)]


def same(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def drawn(context: PolicyContext) -> Samples:
    return Drawer(context).take(0)


def test_the_policy_follows_its_reward(base: Base, tmp_path: Path) -> None:
    history = train(base, tmp_path, policy_steps=8, policy_learning_rate=1e-2, policy_beta=0.0).history
    assert history[0]["reward"] < -6
    assert history[-1]["reward"] > -2
    assert history[-1]["completions/mean_length"] < 2


def test_where_all_answers_are_equal_nothing_but_the_penalty_moves(base: Base, tmp_path: Path) -> None:
    before = weights(base)
    wanted = {"reward": RuleReward(indifferent), "policy_truncated_answers": "mask"}
    assert train(base, tmp_path, **wanted, policy_beta=0.0).history[0]["grad_norm"] == 0
    assert same(before, weights(base))


def test_the_kl_penalty_pulls_the_policy_back_to_its_anchor(base: Base, tmp_path: Path) -> None:
    disturb(base, "policy")
    history = train(
        base, tmp_path, reward=RuleReward(indifferent), policy_beta=10.0, policy_steps=8, policy_learning_rate=5e-3
    ).history
    assert history[-1]["kl"] < 0.3 * history[0]["kl"]


def test_kl_is_to_the_anchor_and_not_to_the_base(base: Base, tmp_path: Path) -> None:
    attach_adapter(base, "sft", rank=4, alpha=8, seed=3)
    disturb(base, "sft", seed=3)
    copy_adapter(base, "sft", "start")
    to_anchor = train(base, tmp_path, adapter="start", anchor="sft", policy_steps=1).history[0]
    copy_adapter(base, "sft", "again")
    to_base = train(base, tmp_path, adapter="again", anchor=None, policy_steps=1).history[0]
    assert to_anchor["objective/kl"] == pytest.approx(0, abs=1e-3)
    assert to_base["objective/kl"] > 0.05


def test_only_the_policy_is_trained(base: Base, tmp_path: Path) -> None:
    attach_adapter(base, "sft", rank=4, alpha=8, seed=3)
    disturb(base, "sft", seed=3)
    anchor, policy = weights(base, "sft"), weights(base)
    frozen = {name: value.clone() for name, value in base.model.named_parameters() if "lora_" not in name}
    train(base, tmp_path, anchor="sft")
    assert same(anchor, weights(base, "sft"))
    assert not same(policy, weights(base))
    assert all(torch.equal(value, frozen[name]) for name, value in base.model.named_parameters() if name in frozen)


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(tmp_path: Path) -> None:
    hashes = []
    for seed in (0, 0, 1):
        base = make_talkative(tmp_path, "policy")
        train(base, tmp_path, seed=seed)
        hashes.append(save_adapter(base, "policy", tmp_path / "saved"))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_gradient_that_is_summed_in_parts_is_the_whole_one(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(base, tmp_path, policy_steps=1).history[0]
    monkeypatch.setattr(updating, "TOKENS_WITH_GRADIENT", {"cpu": 60})
    parts = make_talkative(tmp_path, "policy")
    assert train(parts, tmp_path, policy_steps=1).history[0]["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-4)


def test_the_first_gradient_is_that_of_advantage_times_log_probability(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the sampling policy the ratio is 1 and the penalty's slope 0: mean over tokens of -A * grad log p."""
    context = make_context(base, tmp_path, policy_minibatch=24)
    samples = drawn(context)
    scored, learner = score(context, samples), Grpo(context)
    learner.study(scored)
    with using(base, "policy"):
        logps = [base.model(torch.tensor([[*row.prompt, *row.answer]])).logits.log_softmax(-1) for row in samples.rows]
        picked = [
            table[0, len(row.prompt) - 1 : -1].gather(-1, torch.tensor(row.answer)[:, None])
            for table, row in zip(logps, samples.rows, strict=True)
        ]
        total = -sum(value.sum() * advantage for value, advantage in zip(picked, learner._advantages_S, strict=True))
        (total / sum(len(row.answer) for row in samples.rows)).backward()
    expected = [parameter.grad.clone() for parameter in adapter_parameters(base, "policy")]
    base.model.zero_grad()
    optimizer = Optimiser((adapter_parameters(base, "policy"), 0.0))
    with monkeypatch.context() as patch:
        patch.setattr(optimizer, "step", lambda: 0.0)
        updating._update(context, learner, scored, optimizer, 0)
    found = [parameter.grad for parameter in adapter_parameters(base, "policy")]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6)


def test_a_step_with_several_updates_is_clipped_against_where_it_began(base: Base, tmp_path: Path) -> None:
    fast = {"policy_learning_rate": 5e-2, "policy_steps": 1, "policy_clip": 0.02}
    once = train(base, tmp_path, policy_epochs=1, policy_minibatch=16, **fast).history[0]
    often = train(base, tmp_path, policy_epochs=4, policy_minibatch=8, **fast).history[0]
    assert once["policy/clipfrac_avg"] == 0
    assert often["policy/clipfrac_avg"] > 0


def test_minibatches_hold_every_sample_once_per_pass(base: Base, tmp_path: Path) -> None:
    context = make_context(base, tmp_path, policy_epochs=3, policy_minibatch=5)
    parts = list(updating._minibatches(context, 16, step=2))
    assert [len(part) for part in parts] == [5, 5, 5, 1] * 3
    for number in range(3):
        assert sorted(index for part in parts[4 * number : 4 * number + 4] for index in part) == list(range(16))


def test_a_sampler_that_disagrees_is_corrected_for_up_to_a_cap(base: Base, tmp_path: Path) -> None:
    name = "sampling/importance_sampling_ratio/mean"
    agreeing = train(base, tmp_path, policy_steps=1).history[0]
    below = train(base, tmp_path, policy_steps=1, sampler=NotingSampler(base, shift=-3.0)).history[0]
    above = train(base, tmp_path, policy_steps=1, sampler=NotingSampler(base, shift=1.0)).history[0]
    assert agreeing[name] == pytest.approx(1, abs=1e-3)
    assert below[name] == pytest.approx(2.0)  # the cap, not e^3
    assert above[name] == pytest.approx(0.3679, rel=1e-2)


def test_masked_answers_that_were_cut_teach_nothing(base: Base, tmp_path: Path) -> None:
    before = weights(base)
    history = train(base, tmp_path, policy_max_new_tokens=1, policy_truncated_answers="mask", policy_steps=1).history
    assert history[0]["completions/clipped_ratio"] == 1
    assert history[0]["grad_norm"] == 0
    assert same(before, weights(base))


def test_each_step_reports_under_trl_s_names(base: Base, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def note(step: int, total: int, metrics: dict[str, float]) -> None:
        told.append((step, total))
        assert metrics.keys() == METRICS

    result = train(base, tmp_path, policy_steps=3, progress=note)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert result.metrics.keys() == METRICS
    assert len(result.history) == 3


def test_old_log_probabilities_are_the_trainer_s_own(base: Base, tmp_path: Path) -> None:
    disturb(base, "policy")
    context = make_context(base, tmp_path, policy_epochs=2, sampler=NotingSampler(base, shift=-3.0))
    samples = drawn(context)
    scored = score(context, samples)
    with using(base, "policy"):
        expected = all_logprobs(base, samples.rows)
    old_logps = old_logprobs(context, scored.rows)
    assert old_logps is not None
    for mine, theirs in zip(old_logps, expected, strict=True):
        torch.testing.assert_close(mine, theirs)
