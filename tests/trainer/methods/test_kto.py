"""KTO learns from lone thumbs: liked answers gain on the reference, others lose, both kinds weigh the same."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.policy import make_context
from tests.support.training import disturb, make_base, make_message, make_prompt, make_short_pairs
from trainer.batches import all_logprobs, encode
from trainer.data import Unpaired
from trainer.errors import StageFailed
from trainer.history import Trained
from trainer.lines import Encoded
from trainer.methods import kto
from trainer.model import Base, save_adapter, using


def make_thumb(text: str = "a list", *, label: bool = True, **overrides: Any) -> Unpaired:
    return Unpaired(**{"prompt": make_prompt(), "completion": make_message(text), "label": label, **overrides})


def make_thumbs(count: int) -> list[Unpaired]:
    """Short answers are liked, long ones are not; three of four thumbs are up."""
    pairs = make_short_pairs(count)
    sides = [(pair.rejected, False) if number % 4 == 0 else (pair.chosen, True) for number, pair in enumerate(pairs)]
    return [
        Unpaired(make_prompt(f"What about {number}?"), completion, label)
        for number, (completion, label) in enumerate(sides)
    ]


def train(base: Base, directory: Path, **overrides: Any) -> Trained:
    fields = {"unpaired": make_thumbs(64), "sampler": None, "reward": None, "prompts": ()}
    return kto.train(make_context(base, directory, **{**fields, "preference_learning_rate": 5e-3, **overrides}))


def test_liked_answers_gain_and_others_lose(tmp_path: Path) -> None:
    history = train(make_base(tmp_path, adapters=("policy",)), tmp_path, preference_epochs=6).history
    assert history[0]["loss"] == pytest.approx(0.5, rel=1e-4)
    assert history[-1]["loss"] < 0.45
    assert history[-1]["rewards/chosen"] > history[-1]["rewards/rejected"] + 0.3


def test_the_loss_is_the_weighted_mean_of_the_definition(tmp_path: Path) -> None:
    """Two thumbs up of weights 3 and 1, one down of weight 1: the ups count a quarter."""
    thumbs = [make_thumb(weight=3.0), make_thumb("the cosine of x"), make_thumb("a", label=False)]
    base = make_base(tmp_path, adapters=("policy", "sft"))
    disturb(base, "policy")
    disturb(base, "sft", seed=1)
    rows = [encode(base, thumb.prompt, thumb.completion) for thumb in thumbs]

    def gains(rows: list[Encoded]) -> torch.Tensor:
        with using(base, "policy"):
            mine = all_logprobs(base, rows)
        with using(base, "sft"):
            theirs = all_logprobs(base, rows)
        return torch.stack([(m - t).sum() for m, t in zip(mine, theirs, strict=True)])

    gained = gains(rows)
    orders = [[0, 1, 2], [0, 2, 1]]  # as the step's rows may come: each order has neighbours of its own
    expected = set()
    for order in orders:
        turned = [*order[1:], order[0]]
        point = gains([Encoded(rows[i].prompt, rows[j].answer) for i, j in zip(order, turned, strict=True)])
        z = point.mean().clamp(min=0)
        losses = 1 - torch.sigmoid(0.7 * torch.stack([gained[0] - z, gained[1] - z, z - gained[2]]))
        expected.add(round(float((0.25 * (3 * losses[0] + losses[1]) + losses[2]) / 2), 4))
    found = train(base, tmp_path, unpaired=thumbs, anchor="sft", kto_beta=0.7).history[0]
    assert any(found["loss"] == pytest.approx(value, abs=2e-4) for value in expected)


def test_thumbs_of_one_kind_are_enough(tmp_path: Path) -> None:
    history = train(make_base(tmp_path, adapters=("policy",)), tmp_path, unpaired=[make_thumb()] * 8).history
    assert "rewards/rejected" not in history[0]


def test_thumbs_without_weight_or_too_long_are_left_out(tmp_path: Path) -> None:
    useless = [make_thumb(weight=0.0), make_thumb("the cosine " * 100)]
    with pytest.raises(StageFailed, match="no lone thumbs"):
        train(make_base(tmp_path, adapters=("policy",)), tmp_path, unpaired=useless)


def test_the_same_rows_and_seed_give_the_same_adapter(tmp_path: Path) -> None:
    hashes = []
    for seed in (0, 0, 1):
        base = make_base(tmp_path, adapters=("policy",))
        train(base, tmp_path, seed=seed)
        hashes.append(save_adapter(base, "policy", tmp_path / "saved"))
    assert hashes[0] == hashes[1] != hashes[2]
