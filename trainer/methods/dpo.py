"""DPO: the policy itself is the reward model. Rafailov et al. 2023, arXiv 2305.18290, equation 7.

Each row is one rater's judgement with a weight of its own: loss = sum(w * l) / sum(w). `dpo_loss` picks IPO (Azar et
al. 2023, arXiv 2310.12036), `dpo_label_smoothing` conservative DPO. The reference is the anchor.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.batches import encode
from trainer.errors import StageFailed
from trainer.history import Metrics, Trained
from trainer.lines import Encoded
from trainer.losses.preference import dpo_loss, ipo_loss
from trainer.losses.tokens import weighted_mean
from trainer.methods.policy import PolicyContext
from trainer.offline import Units, answer_sums, passes, reference_logprobs, train_preferences
from trainer.parts import PartLoss


@dataclass(frozen=True, slots=True)
class Pair:
    """One strict choice, encoded."""

    chosen: Encoded
    rejected: Encoded
    weight: float

    def __len__(self) -> int:
        return max(len(self.chosen), len(self.rejected))


def train(context: PolicyContext) -> Trained:
    """Raises StageFailed where no pairs are left."""
    settings, pairs = context.settings, _pairs(context)
    reference_2C = reference_logprobs(context, [*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)])
    reference_C2 = reference_2C.view(2, -1).T
    lengths = [len(pair) for pair in pairs]
    batches = passes(lengths, settings.preference_batch, settings.preference_epochs, seed=context.seed)
    steps = [_step(context, [pairs[index] for index in picked], reference_C2[picked]) for picked in batches]
    return train_preferences(context, steps)


def _step(context: PolicyContext, pairs: Sequence[Pair], reference_C2: Tensor) -> tuple[Units, PartLoss]:
    weighing = sum(pair.weight for pair in pairs)

    def loss_of(picked: list[int]) -> tuple[Tensor, Metrics]:
        return part_loss(context, [pairs[index] for index in picked], reference_C2[picked], weighing)

    return [[pair.chosen, pair.rejected] for pair in pairs], loss_of


def part_loss(
    context: PolicyContext, pairs: Sequence[Pair], reference_C2: Tensor, weighing: float
) -> tuple[Tensor, Metrics]:
    """Both answers of each pair in one forward; `weighing` is the sum of the whole step's weights."""
    rows = [*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)]
    chosen_C, rejected_C = answer_sums(context.base, rows).chunk(2)
    ratios_C, others_C = chosen_C - reference_C2[:, 0], rejected_C - reference_C2[:, 1]
    weights_C = torch.tensor([pair.weight for pair in pairs], device=chosen_C.device)
    loss = weighted_mean(_losses(context, pairs, ratios_C, others_C), weights_C, weighing)
    return loss, _metrics(context.settings.dpo_beta, ratios_C.detach(), others_C.detach())


def _losses(context: PolicyContext, pairs: Sequence[Pair], ratios_C: Tensor, others_C: Tensor) -> Tensor:
    settings = context.settings
    if settings.dpo_loss == "sigmoid":
        return dpo_loss(ratios_C, others_C, beta=settings.dpo_beta, label_smoothing=settings.dpo_label_smoothing)
    chosen_C, rejected_C = (
        torch.tensor([len(row.answer) for row in rows], device=ratios_C.device)
        for rows in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
    )
    return ipo_loss(ratios_C / chosen_C, others_C / rejected_C, beta=settings.dpo_beta)


def _pairs(context: PolicyContext) -> list[Pair]:
    """What is longer than `max_length` is left out rather than cut, since its end matters most."""
    found = [
        Pair(encode(context.base, row.prompt, row.chosen), encode(context.base, row.prompt, row.rejected), row.weight)
        for row in context.pairs
        if row.weight > 0
    ]
    left = [pair for pair in found if len(pair) <= context.settings.max_length]
    if not left:
        raise StageFailed("no preference pairs are left to train the policy on")
    return left


def _metrics(beta: float, ratios_C: Tensor, others_C: Tensor) -> dict[str, float]:
    """TRL's names."""
    return {
        "rewards/chosen": beta * float(ratios_C.mean()),
        "rewards/rejected": beta * float(others_C.mean()),
        "rewards/margins": beta * float((ratios_C - others_C).mean()),
        "rewards/accuracies": float((ratios_C > others_C).float().mean()),
    }
