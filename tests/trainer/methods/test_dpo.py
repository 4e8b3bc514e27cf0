"""DPO prefers what was chosen, by weight, and starts at log 2."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.policy import make_context
from tests.support.training import disturb, make_base, make_pair, make_short_pairs
from trainer.batches import all_logprobs, encode
from trainer.errors import StageFailed
from trainer.history import Trained
from trainer.methods import dpo
from trainer.model import Base, save_adapter, using


def train(base: Base, directory: Path, **overrides: Any) -> Trained:
    fields = {"pairs": make_short_pairs(48), "sampler": None, "reward": None, "prompts": ()}
    return dpo.train(make_context(base, directory, **{**fields, "preference_learning_rate": 5e-3, **overrides}))


def test_chosen_answers_become_likelier_than_rejected_ones(tmp_path: Path) -> None:
    history = train(make_base(tmp_path, adapters=("policy",)), tmp_path, preference_epochs=4).history
    assert history[0]["loss"] == pytest.approx(math.log(2), rel=1e-4)
    assert history[-1]["rewards/accuracies"] == 1.0
    assert history[-1]["rewards/margins"] > 0.5
    assert history[-1]["loss"] < 0.5


def test_ipo_stops_at_its_target(tmp_path: Path) -> None:
    """Half the inverse of beta, in nats per token: DPO would go on."""
    base = make_base(tmp_path, adapters=("policy",))
    history = train(base, tmp_path, dpo_loss="ipo", dpo_beta=2.0, preference_epochs=30).history
    assert history[0]["loss"] == pytest.approx(0.25**2, rel=1e-3)
    assert history[-1]["loss"] < 0.25 * 0.25**2


def test_the_loss_is_the_weighted_mean_of_the_definition(tmp_path: Path) -> None:
    base = make_base(tmp_path, adapters=("policy", "sft"))
    disturb(base, "policy")
    disturb(base, "sft", seed=1)
    pairs = [make_pair(weight=3.0), make_pair("the cosine of x", "a", weight=0.5)]
    found = train(base, tmp_path, pairs=pairs, anchor="sft", dpo_beta=0.7, dpo_label_smoothing=0.1).history[0]

    def nats(name: str, side: str) -> torch.Tensor:
        with using(base, name):
            rows = [encode(base, pair.prompt, getattr(pair, side)) for pair in pairs]
            return torch.stack([logps.sum() for logps in all_logprobs(base, rows)])

    base = make_base(tmp_path, adapters=("policy", "sft"))
    disturb(base, "policy")
    disturb(base, "sft", seed=1)
    gain = nats("policy", "chosen") - nats("sft", "chosen") - nats("policy", "rejected") + nats("sft", "rejected")
    losses = -0.9 * torch.nn.functional.logsigmoid(0.7 * gain) - 0.1 * torch.nn.functional.logsigmoid(-0.7 * gain)
    assert found["loss"] == pytest.approx(float((3 * losses[0] + 0.5 * losses[1]) / 3.5), rel=1e-4)


def test_pairs_without_weight_or_too_long_are_left_out(tmp_path: Path) -> None:
    base = make_base(tmp_path, adapters=("policy",))
    useless = [make_pair(weight=0.0), make_pair("the cosine " * 100)]
    with pytest.raises(StageFailed, match="no preference pairs"):
        train(base, tmp_path, pairs=useless)


def test_the_same_rows_and_seed_give_the_same_adapter(tmp_path: Path) -> None:
    hashes = []
    for seed in (0, 0, 1):
        base = make_base(tmp_path, adapters=("policy",))
        train(base, tmp_path, seed=seed)
        hashes.append(save_adapter(base, "policy", tmp_path / "saved"))
    assert hashes[0] == hashes[1] != hashes[2]
