"""Answers to prompts as padded tensors, and their log-probabilities under whatever adapter is on.

Lines are padded on the right: a causal model never looks there. So a mask is needed only where several answers share a
line, and attention takes its fastest path elsewhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from trainer import lines as layouts
from trainer.data import Message, Prompt, encode_answer, encode_prompt
from trainer.head import head_logprobs
from trainer.lines import Encoded, Line, plan
from trainer.model import Base, recomputing

Budget = Mapping[str, int]  # tokens of one forward, with padding, by the kind of device

# They bound memory, and on a CPU small forwards are the faster ones: they stay in its caches.
TOKENS_PER_FORWARD: Budget = {"cpu": 2048, "cuda": 8192}
TOKENS_WITH_GRADIENT: Budget = {"cpu": 1024, "cuda": 4096}  # a minibatch of more is accumulated


@dataclass(frozen=True, slots=True)
class Batch:
    """R lines of at most L tokens hold B answers of at most T. N: all answer tokens, answer by answer."""

    ids_RL: Tensor
    mask_BT: Tensor
    answer_N: Tensor  # whose token it is
    line_N: Tensor
    before_N: Tensor  # where in its line it is predicted
    targets_N: Tensor
    line_B: Tensor
    last_B: Tensor  # where in its line each answer ends
    attention: dict[str, Tensor]  # what the decoder must be told where answers share a line

    def predicting(self, states_RLH: Tensor) -> Tensor:
        """[N, H]: where each answer token is predicted from."""
        return states_RLH[self.line_N, self.before_N]

    def ending(self, states_RLH: Tensor) -> Tensor:
        """[B, H]: at each answer's last token."""
        return states_RLH[self.line_B, self.last_B]

    def spread(self, values_N: Tensor) -> Tensor:
        """[B, T], zero behind each answer's end."""
        values_BT = torch.zeros(self.mask_BT.shape, device=values_N.device, dtype=values_N.dtype)
        return values_BT.masked_scatter(self.mask_BT, values_N)

    def sums(self, values_N: Tensor) -> Tensor:
        """[B]"""
        zeros_B = torch.zeros(len(self.mask_BT), device=values_N.device, dtype=values_N.dtype)
        return zeros_B.index_add(0, self.answer_N, values_N)


def encode(base: Base, prompt: Prompt, answer: Message | str) -> Encoded:
    return Encoded(encode_prompt(base.tokenizer, prompt), encode_answer(base.tokenizer, prompt, answer))


def make_batch(base: Base, rows: Sequence[Encoded]) -> Batch:
    """Answers in the order of `rows`. Raises ValueError where one is empty: there is nothing to predict."""
    if not all(row.answer and row.prompt for row in rows):
        raise ValueError("a row without prompt or answer tokens can't be trained on")
    lines = plan(rows, base.cost)
    layout = _lay_out(rows, lines)
    lengths_B = torch.tensor([len(row.answer) for row in rows])
    line_B, prompt_end_B, begin_B = torch.tensor(layout.places).unbind(-1)
    mask_BT = torch.arange(int(lengths_B.max())) < lengths_B[:, None]
    answer_N, within_N = mask_BT.nonzero(as_tuple=True)
    before_N = torch.where(within_N == 0, prompt_end_B[answer_N], begin_B[answer_N] + within_N - 1)
    targets_N = torch.tensor([token for row in rows for token in row.answer])
    attention = {} if all(line.plain for line in lines) else _attention(layout)
    return Batch(
        ids_RL=_padded(layout.ids).to(base.device),
        mask_BT=mask_BT.to(base.device),
        answer_N=answer_N.to(base.device),
        line_N=line_B[answer_N].to(base.device),
        before_N=before_N.to(base.device),
        targets_N=targets_N.to(base.device),
        line_B=line_B.to(base.device),
        last_B=(begin_B + lengths_B - 1).to(base.device),
        attention={name: tensor.to(base.device) for name, tensor in attention.items()},
    )


def hidden_states(base: Base, batch: Batch) -> Tensor:
    """[R, L, hidden] under the adapter that is on."""
    with recomputing(base):
        output = base.decoder(input_ids=batch.ids_RL, use_cache=False, **batch.attention)
    hidden: Tensor = output.last_hidden_state
    return hidden


def answer_states(base: Base, batch: Batch) -> Tensor:
    """[N, hidden]: the states from which the answers' tokens are predicted, under the adapter that is on."""
    return batch.predicting(hidden_states(base, batch))


def token_logprobs_of(base: Base, batch: Batch) -> Tensor:
    """[N]. The head runs on answer positions only."""
    return head_logprobs(base.head, answer_states(base, batch), batch.targets_N)


def answer_logprobs(base: Base, batch: Batch) -> Tensor:
    """[B, T], zero behind each answer's end."""
    return batch.spread(token_logprobs_of(base, batch))


def in_batches(base: Base, rows: Sequence[Encoded], budget: Budget = TOKENS_PER_FORWARD) -> list[list[int]]:
    """Indices of rows that go well together in one forward, within the budget; every row once."""
    return list(layouts.in_batches(rows, _tokens(base, budget, rows), base.cost))


def in_parts(base: Base, units: Sequence[Sequence[Encoded]], budget: Budget = TOKENS_WITH_GRADIENT) -> list[list[int]]:
    """The same of units whose rows must be in one forward."""
    return list(layouts.in_parts(units, _tokens(base, budget, [row for unit in units for row in unit]), base.cost))


def _tokens(base: Base, budget: Budget, rows: Sequence[Encoded]) -> int:
    """Of several processes each should have something to do."""
    tokens = budget.get(base.device.type, max(budget.values()))
    return min(tokens, -(-sum(map(len, rows)) // base.world.size)) if base.world.size > 1 else tokens


@torch.no_grad()
def by_token(base: Base, rows: Sequence[Encoded], values_of: Callable[[Batch], Tensor]) -> list[Tensor]:
    """[T] of each row, from [N] of a batch; every process does its share and has all of it in the end."""
    lengths = [len(row.answer) for row in rows]
    ends = list(accumulate(lengths))
    found = torch.zeros(sum(lengths), device=base.device)
    for picked, counts in base.world.deal(in_batches(base, rows)):
        values_N = values_of(make_batch(base, [rows[index] for index in picked]))
        if counts:
            for index, values_T in zip(picked, values_N.split([lengths[index] for index in picked]), strict=True):
                found[ends[index] - lengths[index] : ends[index]] = values_T
    return list(base.world.add(found).split(lengths))


def all_logprobs(base: Base, rows: Sequence[Encoded]) -> list[Tensor]:
    """Each answer's token log-probabilities, without gradient, in the order of the rows."""
    return by_token(base, rows, partial(token_logprobs_of, base))


def pad(values: Sequence[Tensor], width: int) -> Tensor:
    """[B, width], zero behind each row's end."""
    return torch.stack([torch.nn.functional.pad(value, (0, width - len(value))) for value in values])


@dataclass(frozen=True, slots=True)
class _Layout:
    """Line by line: tokens, each one's place behind its own beginning, its tree, and its answer (0: a prompt).

    `places`: of each answer its line, where its prompt ends and where it begins.
    """

    ids: list[list[int]]
    positions: list[list[int]]
    trees: list[list[int]]
    branches: list[list[int]]
    places: list[tuple[int, int, int]]


def _lay_out(rows: Sequence[Encoded], lines: Sequence[Line]) -> _Layout:
    layout = _Layout([], [], [], [], [(0, 0, 0)] * len(rows))
    for number, line in enumerate(lines):
        for part in (layout.ids, layout.positions, layout.trees, layout.branches):
            part.append([])
        for tree_number, tree in enumerate(line.trees):
            _write(layout, number, tree_number, 0, tree.prompt, 0)
            prompt_end = len(layout.ids[number]) - 1
            for branch, index in enumerate(tree.answers, 1):
                layout.places[index] = (number, prompt_end, len(layout.ids[number]))
                _write(layout, number, tree_number, branch, rows[index].answer, len(tree.prompt))
    return layout


def _write(layout: _Layout, line: int, tree: int, branch: int, tokens: Sequence[int], position: int) -> None:
    layout.ids[line] += tokens
    layout.positions[line] += range(position, position + len(tokens))
    layout.trees[line] += [tree] * len(tokens)
    layout.branches[line] += [branch] * len(tokens)


def _attention(layout: _Layout) -> dict[str, Tensor]:
    """A token sees its tree's prompt and its own answer, as far as they stand before it."""
    tree_RL, branch_RL = _padded(layout.trees), _padded(layout.branches)
    same_tree_RLL = tree_RL[:, :, None] == tree_RL[:, None, :]
    same_branch_RLL = branch_RL[:, :, None] == branch_RL[:, None, :]
    seen_RLL = (same_tree_RLL & (same_branch_RLL | (branch_RL == 0)[:, None, :])).tril()
    return {"attention_mask": seen_RLL[:, None], "position_ids": _padded(layout.positions)}


def _padded(lines: Sequence[Sequence[int]]) -> Tensor:
    """[R, L], zero behind each line's end."""
    padded_RL = torch.zeros(len(lines), max(map(len, lines)), dtype=torch.long)
    for number, line in enumerate(lines):
        padded_RL[number, : len(line)] = torch.tensor(line)
    return padded_RL
