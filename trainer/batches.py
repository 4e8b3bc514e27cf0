"""Answers to prompts as padded tensors, and their log-probabilities under whatever adapter is on.

Rows are padded on the right: a causal model never looks there, so that no attention mask is needed and attention
takes its fastest path.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.data import Message, Prompt, encode_answer, encode_prompt
from trainer.losses.tokens import token_logprobs
from trainer.model import Base

TOKENS_PER_FORWARD = 8192  # bounds the memory of a forward without gradient


@dataclass(frozen=True, slots=True)
class Encoded:
    """One answer to one prompt; `answer` ends with the end token unless it was cut."""

    prompt: Sequence[int]
    answer: Sequence[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True)
class Batch:
    """L: longest prompt plus answer. T: longest answer. N: all answer tokens of the batch, row by row."""

    ids_BL: Tensor
    mask_BT: Tensor
    rows_N: Tensor
    before_N: Tensor  # where each answer token is predicted
    last_B: Tensor  # where each row ends

    @property
    def targets_N(self) -> Tensor:
        return self.ids_BL[self.rows_N, self.before_N + 1]


def encode(base: Base, prompt: Prompt, answer: Message | str) -> Encoded:
    return Encoded(encode_prompt(base.tokenizer, prompt), encode_answer(base.tokenizer, prompt, answer))


def make_batch(rows: Sequence[Encoded], device: torch.device) -> Batch:
    """Raises ValueError where an answer is empty: there is nothing to predict."""
    if not all(row.answer and row.prompt for row in rows):
        raise ValueError("a row without prompt or answer tokens can't be trained on")
    longest, answers = max(map(len, rows)), torch.tensor([len(row.answer) for row in rows])
    ids_BL = torch.zeros(len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        ids_BL[index, : len(row)] = torch.tensor([*row.prompt, *row.answer])
    last_B = torch.tensor([len(row) - 1 for row in rows])
    mask_BT = torch.arange(int(answers.max())) < answers[:, None]
    rows_N, within_N = mask_BT.nonzero(as_tuple=True)
    before_N = (last_B - answers)[rows_N] + within_N
    moved = (tensor.to(device) for tensor in (ids_BL, mask_BT, rows_N, before_N, last_B))
    return Batch(*moved)


def hidden_states(base: Base, batch: Batch) -> Tensor:
    """[B, L, hidden] under the adapter that is on."""
    output = base.decoder(input_ids=batch.ids_BL, use_cache=False)
    hidden: Tensor = output.last_hidden_state
    return hidden


def answer_states(base: Base, batch: Batch) -> Tensor:
    """[N, hidden]: the states from which the answers' tokens are predicted, under the adapter that is on."""
    return hidden_states(base, batch)[batch.rows_N, batch.before_N]


def spread(batch: Batch, values_N: Tensor) -> Tensor:
    """[B, T], zero behind each answer's end."""
    values_BT = torch.zeros(batch.mask_BT.shape, device=values_N.device, dtype=values_N.dtype)
    return values_BT.masked_scatter(batch.mask_BT, values_N)


def answer_logprobs(base: Base, batch: Batch) -> Tensor:
    """[B, T], zero behind each answer's end. The head runs on answer positions only."""
    return spread(batch, token_logprobs(base.head(answer_states(base, batch)), batch.targets_N))


def in_batches(rows: Sequence[Encoded], tokens: int = TOKENS_PER_FORWARD) -> Iterator[list[int]]:
    """Indices of rows of like length, at most `tokens` with padding; every row once."""
    picked: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: len(rows[index])):
        if picked and len(rows[index]) * (len(picked) + 1) > tokens:
            yield picked
            picked = []
        picked.append(index)
    if picked:
        yield picked


@torch.no_grad()
def all_logprobs(base: Base, rows: Sequence[Encoded]) -> list[Tensor]:
    """Each answer's token log-probabilities, without gradient, in the order of the rows."""
    found: list[Tensor] = [torch.empty(0)] * len(rows)
    for picked in in_batches(rows):
        batch = make_batch([rows[index] for index in picked], base.device)
        logps_BT = answer_logprobs(base, batch)
        for index, logps_T in zip(picked, logps_BT, strict=True):
            found[index] = logps_T[: len(rows[index].answer)]
    return found


def pad(values: Sequence[Tensor], width: int) -> Tensor:
    """[B, width], zero behind each row's end."""
    return torch.stack([torch.nn.functional.pad(value, (0, width - len(value))) for value in values])
