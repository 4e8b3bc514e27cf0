"""Supervised fine-tuning on demonstrations: the loss is on the answers alone, weighted by row.

Ouyang et al. 2022, arXiv 2203.02155, first step; on a LoRA, so that the base stays everyone's reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from infra.settings import TrainerSettings
from trainer.batches import encode
from trainer.checkpoints import NOWHERE, Checkpoints
from trainer.data import Demonstration
from trainer.errors import StageFailed
from trainer.history import Metrics, Trained
from trainer.lines import Encoded
from trainer.model import Base
from trainer.offline import Units, answer_sums, passes, train_on_rows
from trainer.optimizing import threads
from trainer.parts import PartLoss
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
    checkpoints: Checkpoints = NOWHERE,
) -> Trained:
    """Trains the attached `adapter` in place. Raises StageFailed without rows."""
    encoded = encoded_rows(base, rows, settings.max_length)
    lengths = [len(row.encoded) for row in encoded]
    batches = passes(lengths, BATCH, settings.sft_epochs, seed=seed)
    steps = [_step(base, [encoded[index] for index in picked]) for picked in batches]
    rate = settings.sft_learning_rate
    with threads(settings.threads):
        found = train_on_rows(base, adapter, steps, rate=rate, progress=progress, checkpoints=checkpoints)
    return replace(found, metrics={**found.metrics, "rows": float(len(encoded))})


def _step(base: Base, rows: Sequence[Row]) -> tuple[Units, PartLoss]:
    weighing = sum(row.weight * len(row.encoded.answer) for row in rows)

    def loss_of(picked: list[int]) -> tuple[Tensor, Metrics]:
        return sft_loss(base, [rows[index] for index in picked], weighing), {}

    return [[row.encoded] for row in rows], loss_of


def encoded_rows(base: Base, rows: Sequence[Demonstration], longest: int) -> list[Row]:
    """What is longer than `longest` is left out rather than cut. Raises StageFailed where nothing is left."""
    encoded = [Row(encode(base, row.prompt, row.completion), row.weight) for row in rows if row.weight > 0]
    left = [row for row in encoded if len(row.encoded) <= longest]
    if not left:
        raise StageFailed("no demonstrations are left to fine-tune on")
    return left


def sft_loss(base: Base, rows: Sequence[Row], weighing: float | None = None) -> Tensor:
    """-sum(w * log p) / sum(w * tokens), under the adapter that is on; `weighing` is a larger batch's last sum."""
    weights_B = torch.tensor([row.weight for row in rows], device=base.device)
    logps_B = answer_sums(base, [row.encoded for row in rows])
    total = weighing or sum(row.weight * len(row.encoded.answer) for row in rows)
    return -(weights_B * logps_B).sum() / total
