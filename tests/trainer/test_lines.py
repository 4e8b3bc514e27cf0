"""Rows share prompts and lines where that is cheaper, and never see each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MistralConfig, MistralForCausalLM

from tests.support.tiny_model import Kind, make_tiny_model
from tests.support.training import disturb, make_base, make_row
from trainer.batches import answer_logprobs, make_batch
from trainer.lines import Encoded, cost_of, in_batches, in_parts, plan
from trainer.model import Base, load_base, using

COST = cost_of(64)
PROMPT = tuple(range(3, 43))


def siblings(count: int, prompt: Sequence[int] = PROMPT) -> list[Encoded]:
    return [make_row(prompt, tuple(range(50 + number, 54 + 2 * number))) for number in range(count)]


def alone(base: Base, row: Encoded) -> torch.Tensor:
    """From the model's own logits, one row."""
    ids = torch.tensor([[*row.prompt, *row.answer]])
    logps = base.model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    return logps[len(row.prompt) - 1 :]


def sliding(directory: Path) -> Path:
    """A model whose tokens see only the last eight."""
    make_tiny_model(directory)
    config = MistralConfig(
        vocab_size=320, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=1,
        num_key_value_heads=1, head_dim=64, sliding_window=8, bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_answers_behind_one_prompt_have_the_log_probabilities_that_each_has_alone(tmp_path: Path, kind: Kind) -> None:
    base = make_base(tmp_path, kind=kind, adapters=("policy",))
    disturb(base, "policy")
    rows = [*siblings(3), make_row(), *siblings(2, (9, 8, 7))]
    batch = make_batch(base, rows)
    assert batch.attention
    assert len(batch.ids_RL) < len(rows)
    with using(base, "policy"), torch.no_grad():
        for found, row in zip(answer_logprobs(base, batch), rows, strict=True):
            torch.testing.assert_close(found[: len(row.answer)], alone(base, row), atol=1e-5, rtol=1e-5)


def test_the_gradient_of_shared_rows_is_the_sum_of_each_one_s(tmp_path: Path) -> None:
    base, rows = make_base(tmp_path, adapters=("policy",)), siblings(3)
    disturb(base, "policy")

    def gradient(total: Any) -> list[torch.Tensor]:
        total.backward()
        found = [p.grad.clone() for p in base.model.parameters() if p.grad is not None]
        base.model.zero_grad()
        return found

    with using(base, "policy"):
        shared = gradient((answer_logprobs(base, make_batch(base, rows)) ** 2).sum())
        single = gradient(torch.cat([alone(base, row) ** 2 for row in rows]).sum())
    for mine, theirs in zip(shared, single, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_nothing_is_shared_on_a_model_with_a_sliding_window(tmp_path: Path) -> None:
    base = load_base(sliding(tmp_path))
    assert not base.shares
    rows = siblings(3)
    batch = make_batch(base, rows)
    assert not batch.attention
    for found, row in zip(answer_logprobs(base, batch), rows, strict=True):
        torch.testing.assert_close(found[: len(row.answer)], alone(base, row), atol=1e-5, rtol=1e-5)


def test_short_rows_are_packed_beside_a_long_one() -> None:
    rows = [make_row(range(3, 100), range(3, 50)), *(make_row((number, 4), (5, 6, 7)) for number in range(3, 15))]
    lines = plan(rows, COST)
    assert len(lines) == 2
    assert max(line.length for line in lines) == len(rows[0])


def test_long_answers_to_a_short_prompt_are_not_shared() -> None:
    rows = [make_row((3, 4), range(3, 200)) for _ in range(4)]
    assert [len(line.trees) for line in plan(rows, COST)] == [1, 1, 1, 1]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 40)), max_size=30), st.integers(8, 200))
@settings(deadline=None)
def test_every_row_is_in_one_batch_and_on_one_line(shapes: list[tuple[int, int]], tokens: int) -> None:
    rows = [make_row(range(3, 5 + 7 * prompt), range(3, 3 + answer)) for prompt, answer in shapes]
    batches = list(in_batches(rows, tokens, COST))
    assert sorted(index for batch in batches for index in batch) == list(range(len(rows)))
    for batch in batches:
        lines = plan([rows[index] for index in batch], COST)
        assert sorted(at for line in lines for tree in line.trees for at in tree.answers) == list(range(len(batch)))


@given(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=4), max_size=12), st.integers(8, 200))
@settings(deadline=None)
def test_what_belongs_together_stays_together_within_the_budget(lengths: list[list[int]], tokens: int) -> None:
    units = [
        [make_row((number + 3, 4), range(3, 3 + length)) for length in unit] for number, unit in enumerate(lengths)
    ]
    parts = list(in_parts(units, tokens, None))
    assert sorted(index for part in parts for index in part) == list(range(len(units)))
    for part in parts:
        rows = [row for index in part for row in units[index]]
        assert len(part) == 1 or len(rows) * max(map(len, rows)) <= tokens
