"""DPO first, samples afterwards: one adapter, figures of both."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.policy import make_context
from tests.support.training import disturb, make_base, make_settings, make_short_pairs
from trainer.methods import dpo, grpo
from trainer.methods.policy import PolicyContext
from trainer.model import Base, adapter_parameters
from trainer.warm_start import is_warmed, learns_from_pairs, train_policy


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return make_base(tmp_path, adapters=("policy", "reference"))


def make_warm(base: Base, directory: Path, **overrides: Any) -> PolicyContext:
    wanted = {"policy_warm_start": "dpo", "preference_learning_rate": 5e-3, "preference_batch": 8}
    return make_context(base, directory, pairs=make_short_pairs(16), **{**wanted, **overrides})


def weights(base: Base, name: str = "policy") -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in adapter_parameters(base, name)])


def test_both_phases_leave_their_figures(base: Base, tmp_path: Path) -> None:
    found = train_policy(make_warm(base, tmp_path), reference=None)
    assert [set(step) >= {"warm_start/rewards/margins"} for step in found.history] == [True, True, False, False]
    assert "objective/kl" in found.history[-1]
    assert {"warm_start/loss", "warm_start/rewards/accuracies", "objective/kl", "loss"} <= found.metrics.keys()


def test_it_is_one_method_after_the_other(base: Base, tmp_path: Path) -> None:
    train_policy(make_warm(base, tmp_path / "one"), reference=None)
    other = make_base(tmp_path / "other", adapters=("policy", "reference"))
    context = make_warm(other, tmp_path / "two")
    dpo.train(context)
    grpo.train(context)
    assert torch.equal(weights(base), weights(other))


def test_the_warm_up_is_held_to_its_own_reference(base: Base, tmp_path: Path) -> None:
    """A fresh policy is the base: it has moved nowhere from that, and somewhere from a reference that differs."""
    disturb(base, "reference")
    found = train_policy(make_warm(base, tmp_path), reference="reference")
    other = make_base(tmp_path / "other", adapters=("policy",))
    plain = train_policy(make_warm(other, tmp_path / "plain"), reference=None)
    assert abs(found.history[0]["warm_start/rewards/margins"]) > 1e-3
    assert abs(plain.history[0]["warm_start/rewards/margins"]) < 1e-5


def test_progress_tells_the_phases_apart(base: Base, tmp_path: Path) -> None:
    told: list[tuple[int, int, dict[str, float]]] = []
    context = replace(make_warm(base, tmp_path), progress=lambda *step: told.append(step))
    train_policy(context, reference=None)
    assert [(step, total) for step, total, _ in told] == [(1, 2), (2, 2), (1, 2), (2, 2)]
    assert ["warm_start/loss" in metrics for _, _, metrics in told] == [True, True, False, False]


def test_without_a_warm_up_it_is_the_method_alone(base: Base, tmp_path: Path) -> None:
    found = train_policy(make_warm(base, tmp_path, policy_warm_start="none"), reference=None)
    assert len(found.history) == 2
    assert not any(name.startswith("warm_start") for name in found.metrics)


@pytest.mark.parametrize(
    ("method", "warm_start", "warmed", "from_pairs"),
    [
        ("grpo", "dpo", True, True),
        ("ppo", "none", False, False),
        ("dpo", "dpo", False, True),
        ("dpo", "none", False, True),
        ("kto", "dpo", False, False),
    ],
)
def test_what_learns_from_judgements_itself_is_not_warmed_up(
    method: str, warm_start: str, warmed: bool, from_pairs: bool
) -> None:
    settings = make_settings(method=method, policy_warm_start=warm_start)
    assert is_warmed(settings) is warmed
    assert learns_from_pairs(settings) is from_pairs
