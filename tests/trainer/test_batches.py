"""Padded batches give what each row gives alone."""

from pathlib import Path

import pytest
import torch

from tests.support.tiny_model import Kind
from tests.support.training import make_base, make_prompt, make_row
from trainer.batches import all_logprobs, answer_logprobs, encode, in_batches, make_batch, pad
from trainer.lines import Encoded
from trainer.losses.tokens import masked_sum
from trainer.model import Base

ROWS = [
    make_row(),
    make_row(answer=(70,)),
    make_row((3, 9), (61, 62, 63, 64, 65, 1)),
    make_row((3, 4, 5, 6, 7, 8, 9), (1,)),
]


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return make_base(tmp_path)


@torch.no_grad()
def alone(base: Base, row: Encoded) -> torch.Tensor:
    """From the model's own logits, one row, no padding."""
    ids = torch.tensor([[*row.prompt, *row.answer]])
    logps = base.model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    return logps[len(row.prompt) - 1 :]


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_log_probabilities_of_a_padded_batch_are_those_of_each_row_alone(tmp_path: Path, kind: Kind) -> None:
    base = make_base(tmp_path, kind=kind)
    for found, row in zip(all_logprobs(base, ROWS), ROWS, strict=True):
        torch.testing.assert_close(found, alone(base, row), atol=1e-5, rtol=1e-5)


def test_log_probabilities_are_zero_behind_an_answer_s_end(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    batch = make_batch(base, ROWS)
    logps_BT = answer_logprobs(base, batch)
    assert (logps_BT[~batch.mask_BT] == 0).all()
    torch.testing.assert_close(masked_sum(logps_BT, batch.mask_BT), logps_BT.sum(-1))


def test_the_gradient_reaches_the_adapter_through_the_scattered_log_probabilities(tmp_path: Path) -> None:
    base = make_base(tmp_path, adapters=("policy",))
    with base.switch.using("policy"):
        answer_logprobs(base, make_batch(base, ROWS)).sum().backward()
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in base.model.parameters())


def test_targets_are_the_answers_tokens_row_by_row(base: Base) -> None:
    batch = make_batch(base, ROWS)
    assert batch.targets_N.tolist() == [token for row in ROWS for token in row.answer]
    assert batch.ids_RL[batch.line_B, batch.last_B].tolist() == [row.answer[-1] for row in ROWS]


@pytest.mark.parametrize("row", [Encoded([3], []), Encoded([], [5])])
def test_a_row_without_prompt_or_answer_is_an_error(base: Base, row: Encoded) -> None:
    with pytest.raises(ValueError, match="without prompt or answer"):
        make_batch(base, [row])


def test_batches_hold_every_row_once_and_no_more_tokens_than_allowed(base: Base) -> None:
    rows = [make_row((3, number), answer=range(1, 2 + number % 13)) for number in range(100)]
    batches = list(in_batches(base, rows, {"cpu": 60}))
    assert sorted(index for batch in batches for index in batch) == list(range(100))
    assert all(len(batch) * max(len(rows[index]) for index in batch) <= 60 for batch in batches)


def test_a_row_longer_than_a_batch_gets_one_of_its_own(base: Base) -> None:
    rows = [make_row(answer=range(1, 50)), make_row((3, 4))]
    assert list(in_batches(base, rows, {"cpu": 20})) == [[1], [0]]


def test_no_rows_are_no_batches(base: Base) -> None:
    assert list(in_batches(base, [])) == []


def test_padding_fills_up_with_zeros() -> None:
    assert pad([torch.ones(2), torch.ones(1)], 3).tolist() == [[1, 1, 0], [1, 0, 0]]


def test_a_prompt_and_an_answer_are_encoded_as_the_template_writes_them(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    row = encode(base, make_prompt("Hi"), "Hello")
    assert base.tokenizer.decode([*row.prompt, *row.answer]) == "<|user|>Hi<|end|><|assistant|>Hello<|end|>"
