"""How far one policy is from others on its own answers: full-vocabulary KL, and plain log-probabilities."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from trainer.batches import Batch, answer_states, by_token, in_batches, make_batch
from trainer.head import head_logprobs
from trainer.lines import Encoded
from trainer.losses.tokens import token_logprobs
from trainer.model import Base, using

FLOATS_PER_PIECE = 1 << 25  # of logits: 128 MiB a copy, whatever the vocabulary


def answer_kls(
    base: Base, answers: Sequence[Encoded], *, policy: str | None, references: Sequence[str | None]
) -> dict[str | None, list[float]]:
    """Nats per answer: the sum over its tokens of KL(policy || reference) of the whole next-token distribution.

    With answers that `policy` sampled at temperature 1 the mean is an unbiased estimate of the sequences' KL, of lower
    variance than one from the sampled tokens alone. None names the base with adapters off. An empty answer has none.
    """
    found = {name: [0.0] * len(answers) for name in references}
    spoken = [index for index, answer in enumerate(answers) if answer.answer]
    for picked in in_batches(base, [answers[index] for index in spoken]):
        rows = [spoken[index] for index in picked]
        batch = make_batch(base, [answers[row] for row in rows])
        policy_NH = _states(base, batch, policy)
        for name in references:
            kl_B = batch.sums(_kl(base, policy_NH, _states(base, batch, name)))
            for row, value in zip(rows, kl_B.tolist(), strict=True):
                found[name][row] = value
    return found


@torch.inference_mode()
def sequence_logprobs(base: Base, token_ids: Sequence[int], adapter: str | None) -> list[float]:
    """log p of every token but the first, temperature 1: what an engine must reproduce."""
    batch = make_batch(base, [Encoded(token_ids[:1], token_ids[1:])])
    return head_logprobs(base.head, _states(base, batch, adapter), batch.targets_N).tolist()


def tempered_logprobs(
    base: Base, answers: Sequence[Encoded], temperatures: Sequence[float], adapter: str | None
) -> list[float]:
    """log p of each whole answer, logits divided by its temperature: what an engine calls processed, in nats."""
    found = [0.0] * len(answers)
    for temperature in sorted(set(temperatures)):
        rows = [row for row, mine in enumerate(temperatures) if mine == temperature]
        with using(base, adapter):
            logps = by_token(base, [answers[row] for row in rows], partial(_tempered, base, temperature))
        for row, logps_T in zip(rows, logps, strict=True):
            found[row] = float(logps_T.double().sum())
    return found


def _tempered(base: Base, temperature: float, batch: Batch) -> Tensor:
    """[N]. In pieces, since the logits themselves are what is divided."""
    pieces = zip(*(_pieces(base, values_N) for values_N in (answer_states(base, batch), batch.targets_N)), strict=True)
    return torch.cat([token_logprobs(base.head(states).float() / temperature, tokens) for states, tokens in pieces])


@torch.inference_mode()
def _states(base: Base, batch: Batch, adapter: str | None) -> Tensor:
    """Hidden states from which the answers' tokens are predicted, [N, hidden]."""
    with using(base, adapter):
        return answer_states(base, batch)


@torch.inference_mode()
def _kl(base: Base, policy_NH: Tensor, reference_NH: Tensor) -> Tensor:
    """Per position; the head has no adapter, so both go through the same one."""
    pieces = zip(_pieces(base, policy_NH), _pieces(base, reference_NH), strict=True)
    return torch.cat([_kl_of_logits(base.head(mine), base.head(theirs)) for mine, theirs in pieces])


def _kl_of_logits(policy_NV: Tensor, reference_NV: Tensor) -> Tensor:
    logp_NV, logq_NV = policy_NV.float().log_softmax(-1), reference_NV.float().log_softmax(-1)
    return (logp_NV.exp() * (logp_NV - logq_NV)).sum(-1)


def _pieces(base: Base, values_N: Tensor) -> Sequence[Tensor]:
    pieces: Sequence[Tensor] = values_N.split(max(1, FLOATS_PER_PIECE // int(base.model.config.vocab_size)))
    return pieces
