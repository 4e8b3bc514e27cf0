"""Supervised fine-tuning on demonstrations: the loss is on the answers alone, weighted by row.

Ouyang et al. 2022, arXiv 2203.02155, first step; on a LoRA, so that the base stays everyone's reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from infra.settings import TrainerSettings
from trainer.batches import Encoded, answer_logprobs, encode, make_batch
from trainer.data import Demonstration
from trainer.errors import StageFailed
from trainer.losses.tokens import masked_sum
from trainer.model import Base, adapter_parameters, using
from trainer.optimizing import apply_gradients, cosine, set_rates, shuffled_batches, threads
from trainer.progress import Progress, silent

BATCH = 16


@dataclass(frozen=True, slots=True)
class Row:
    encoded: Encoded
    weight: float


def train(
    base: Base,
    rows: Sequence[Demonstration],
    *,
    adapter: str,
    settings: TrainerSettings,
    seed: int,
    progress: Progress = silent,
) -> dict[str, float]:
    """Trains the attached `adapter` in place; returns its last metrics. Raises StageFailed without rows."""
    encoded = encoded_rows(base, rows, settings.max_length)
    lengths = [len(row.encoded) for row in encoded]
    epochs = range(settings.sft_epochs)
    batches = [batch for epoch in epochs for batch in shuffled_batches(lengths, BATCH, seed=seed + epoch)]
    parameters = adapter_parameters(base, adapter)
    optimizer = torch.optim.AdamW(parameters, lr=settings.sft_learning_rate, weight_decay=0.0)
    losses: list[float] = []
    with threads(settings.threads):
        for step, picked in enumerate(batches):
            set_rates(optimizer, cosine(step, len(batches)))
            with using(base, adapter):
                loss = sft_loss(base, [encoded[index] for index in picked])
                loss.backward()
            norm = apply_gradients(optimizer, parameters)
            losses.append(float(loss.detach()))
            progress(step + 1, len(batches), {"loss": losses[-1], "grad_norm": norm})
    return {"loss": fmean(losses[-max(1, len(losses) // 4) :]), "rows": float(len(encoded))}


def encoded_rows(base: Base, rows: Sequence[Demonstration], longest: int) -> list[Row]:
    """What is longer than `longest` is left out rather than cut. Raises StageFailed where nothing is left."""
    encoded = [Row(encode(base, row.prompt, row.completion), row.weight) for row in rows if row.weight > 0]
    left = [row for row in encoded if len(row.encoded) <= longest]
    if not left:
        raise StageFailed("no demonstrations are left to fine-tune on")
    return left


def sft_loss(base: Base, rows: Sequence[Row]) -> Tensor:
    """-sum(w * log p) / sum(w * tokens), under the adapter that is on."""
    batch = make_batch([row.encoded for row in rows], base.device)
    weights_B = torch.tensor([row.weight for row in rows], device=base.device)
    logps_B = masked_sum(answer_logprobs(base, batch), batch.mask_BT)
    return -(weights_B * logps_B).sum() / (weights_B * batch.mask_BT.sum(-1)).sum()
