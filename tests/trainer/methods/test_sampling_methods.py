"""What holds for every method that learns from its own samples."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.policy import RuleReward, indifferent, make_context, make_talkative
from tests.support.training import disturb
from trainer.history import Trained
from trainer.methods.policy import SAMPLING, policy_method
from trainer.model import Base, adapter_parameters, attach_adapter, save_adapter

METHODS = pytest.mark.parametrize("method", sorted(SAMPLING))


def train(method: str, base: Base, directory: Path, **overrides: Any) -> Trained:
    return policy_method(method)(make_context(base, directory, **overrides))


@METHODS
def test_the_policy_follows_its_reward(method: str, tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    history = train(method, base, tmp_path, policy_steps=16, policy_learning_rate=1e-2, policy_beta=0.0).history
    assert history[0]["reward"] < -6
    assert history[-1]["reward"] > -2


@METHODS
def test_a_strong_penalty_holds_the_policy_near_its_anchor(method: str, tmp_path: Path) -> None:
    reached = []
    for beta in (0.0, 10.0):
        base = make_talkative(tmp_path, "policy")
        wanted = {"policy_steps": 16, "policy_learning_rate": 1e-2, "policy_beta": beta}
        reached.append(train(method, base, tmp_path, **wanted).history[-1]["objective/kl"])
    assert reached[1] < 0.3 * reached[0]


@METHODS
def test_the_penalty_alone_pulls_a_policy_back(method: str, tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    disturb(base, "policy")
    history = train(
        method, base, tmp_path, reward=RuleReward(indifferent), policy_beta=10.0, policy_steps=10,
        policy_learning_rate=5e-3, policy_truncated_answers="mask",
    ).history  # fmt: skip
    assert history[-1]["objective/kl"] < 0.5 * history[0]["objective/kl"]


@METHODS
def test_only_the_policy_is_trained(method: str, tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    attach_adapter(base, "sft", rank=4, alpha=8, seed=3)
    disturb(base, "sft", seed=3)
    mine = {id(parameter) for parameter in adapter_parameters(base, "policy")}
    before = {name: value.clone() for name, value in base.model.named_parameters() if id(value) not in mine}
    start = [parameter.clone() for parameter in adapter_parameters(base, "policy")]
    train(method, base, tmp_path, anchor="sft")
    assert all(torch.equal(value, before[name]) for name, value in base.model.named_parameters() if name in before)
    assert not all(map(torch.equal, start, adapter_parameters(base, "policy")))


@METHODS
def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(method: str, tmp_path: Path) -> None:
    hashes = []
    for seed in (0, 0, 1):
        base = make_talkative(tmp_path, "policy")
        train(method, base, tmp_path, seed=seed, policy_epochs=2, policy_minibatch=8)
        hashes.append(save_adapter(base, "policy", tmp_path / "saved"))
    assert hashes[0] == hashes[1] != hashes[2]


@METHODS
@pytest.mark.parametrize("average", ["bnpo", "grpo", "dr_grpo"])
def test_a_gradient_that_is_summed_in_parts_is_the_whole_one(
    method: str, average: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms = []
    for tokens in (4096, 60):
        monkeypatch.setattr("trainer.updating.TOKENS_WITH_GRADIENT", {"cpu": tokens})
        base = make_talkative(tmp_path, "policy")
        history = train(method, base, tmp_path, policy_steps=1, policy_average=average).history
        norms.append(history[0]["grad_norm"])
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)


@METHODS
def test_masked_answers_that_were_cut_teach_nothing(method: str, tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    before = [parameter.clone() for parameter in adapter_parameters(base, "policy")]
    history = train(
        method, base, tmp_path, policy_max_new_tokens=1, policy_truncated_answers="mask", policy_steps=1
    ).history
    assert history[0]["completions/clipped_ratio"] == 1
    assert history[0]["grad_norm"] == 0
    assert all(map(torch.equal, before, adapter_parameters(base, "policy")))


@METHODS
def test_several_updates_on_the_same_samples_are_clipped(method: str, tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    fast = {"policy_learning_rate": 5e-2, "policy_steps": 1, "policy_clip": 0.02}
    history = train(method, base, tmp_path, policy_epochs=4, policy_minibatch=8, **fast).history
    assert history[0]["policy/clipfrac_avg"] > 0
