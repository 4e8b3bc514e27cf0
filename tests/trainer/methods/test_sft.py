"""Fine-tuning imitates what it is shown, answers only, by weight."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.training import make_base, make_message, make_prompt, make_row, make_settings
from trainer.batches import all_logprobs, encode
from trainer.data import Demonstration
from trainer.errors import StageFailed
from trainer.methods import sft
from trainer.methods.sft import Row, sft_loss
from trainer.model import Base, save_adapter, using


def make_rows(count: int = 64, **overrides: Any) -> list[Demonstration]:
    fields = {"prompt": make_prompt(), "completion": make_message("a list of the cosine"), **overrides}
    return [Demonstration(**fields) for _ in range(count)]


def train(base: Base, rows: list[Demonstration], seed: int = 0, **overrides: Any) -> dict[str, float]:
    settings = make_settings(**{"sft_learning_rate": 1e-2, **overrides})
    return sft.train(base, rows, adapter="sft", settings=settings, seed=seed)


def likelihood(base: Base, name: str | None) -> float:
    with using(base, name):
        return float(all_logprobs(base, [encode(base, make_prompt(), "a list of the cosine")])[0].sum())


def test_what_was_demonstrated_becomes_likelier(tmp_path: Path) -> None:
    base = make_base(tmp_path, adapters=("sft",))
    found = train(base, make_rows(), sft_epochs=4)
    assert likelihood(base, "sft") > likelihood(base, None) + 5
    assert found.metrics["rows"] == 64


def test_the_loss_is_the_weighted_mean_over_answer_tokens(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    rows = [Row(make_row(), 3.0), Row(make_row(answer=(70, 1)), 1.0)]
    first, second = all_logprobs(base, [row.encoded for row in rows])
    expected = -(3 * first.sum() + second.sum()) / (3 * len(first) + len(second))
    torch.testing.assert_close(sft_loss(base, rows), expected)


def test_rows_without_weight_or_too_long_are_left_out(tmp_path: Path) -> None:
    base = make_base(tmp_path, adapters=("sft",))
    useless = [*make_rows(3, weight=0.0), *make_rows(2, completion=make_message("the cosine " * 100))]
    assert train(base, [*make_rows(5), *useless]).metrics["rows"] == 5
    with pytest.raises(StageFailed, match="no demonstrations"):
        train(base, useless)


def test_the_same_rows_and_seed_give_the_same_adapter(tmp_path: Path) -> None:
    hashes = []
    for _ in range(2):
        base = make_base(tmp_path, adapters=("sft",))
        train(base, make_rows(32))
        hashes.append(save_adapter(base, "sft", tmp_path / "saved"))
    assert hashes[0] == hashes[1]
