"""KTO: lone thumbs, each against what the policy gains on average. Ethayarajh et al. 2024, arXiv 2402.01306.

The reference point is estimated from each answer behind its neighbour's prompt (section 3.3). Up and down weigh the
same in sum, by the observed ratio. Each row is one rater's judgement with a weight of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainer.batches import all_logprobs, encode
from trainer.errors import StageFailed
from trainer.history import Metrics, Trained
from trainer.lines import Encoded
from trainer.losses.preference import kto_loss, kto_reference_point, kto_weights
from trainer.losses.tokens import weighted_mean
from trainer.methods.policy import PolicyContext
from trainer.offline import Units, answer_sums, passes, reference_logprobs, train_preferences
from trainer.parts import PartLoss


@dataclass(frozen=True, slots=True)
class Thumb:
    """One judged answer, encoded."""

    row: Encoded
    liked: bool
    weight: float


def train(context: PolicyContext) -> Trained:
    """Raises StageFailed where nothing is left."""
    settings, thumbs = context.settings, _thumbs(context)
    liked_B = torch.tensor([thumb.liked for thumb in thumbs])
    factors = kto_weights(liked_B, torch.tensor([thumb.weight for thumb in thumbs]))
    weighed = [replace(thumb, weight=thumb.weight * factors[not thumb.liked]) for thumb in thumbs]
    lengths = [len(thumb.row) for thumb in thumbs]
    # in steps of like lengths there would often be one kind of thumb alone
    batches = passes(lengths, settings.preference_batch, settings.preference_epochs, seed=context.seed, alike=False)
    reference_B = reference_logprobs(context, [thumb.row for thumb in thumbs])
    moved = [row for picked in batches for row in _mismatched([thumbs[index].row for index in picked])]
    moved_B = reference_logprobs(context, moved).split([len(picked) for picked in batches])  # others in each pass
    steps = [
        _step(context, [weighed[index] for index in picked], reference_B[picked], elsewhere_B)
        for picked, elsewhere_B in zip(batches, moved_B, strict=True)
    ]
    return train_preferences(context, steps)


def _step(
    context: PolicyContext, thumbs: Sequence[Thumb], reference_B: Tensor, moved_reference_B: Tensor
) -> tuple[Units, PartLoss]:
    weighing, point = sum(thumb.weight for thumb in thumbs), Point(context, thumbs, moved_reference_B)

    def loss_of(picked: list[int]) -> tuple[Tensor, Metrics]:
        return part_loss(context, [thumbs[index] for index in picked], reference_B[picked], point(), weighing)

    return [[thumb.row] for thumb in thumbs], loss_of


@dataclass
class Point:
    """A step's reference point, computed before its first forward with gradient."""

    context: PolicyContext
    thumbs: Sequence[Thumb]
    reference_B: Tensor
    _found: Tensor | None = None

    def __call__(self) -> Tensor:
        if self._found is None:
            moved = all_logprobs(self.context.base, _mismatched([thumb.row for thumb in self.thumbs]))
            self._found = kto_reference_point(torch.stack([logps_T.sum() for logps_T in moved]) - self.reference_B)
        return self._found


def part_loss(
    context: PolicyContext, thumbs: Sequence[Thumb], reference_B: Tensor, point: Tensor, weighing: float
) -> tuple[Tensor, Metrics]:
    """`weighing` is the sum of the whole step's weights."""
    beta, device = context.settings.kto_beta, reference_B.device
    ratios_B = answer_sums(context.base, [thumb.row for thumb in thumbs]) - reference_B
    liked_B = torch.tensor([thumb.liked for thumb in thumbs], device=device)
    weights_B = torch.tensor([thumb.weight for thumb in thumbs], device=device)
    loss = weighted_mean(kto_loss(ratios_B, liked_B, point, beta=beta), weights_B, weighing)
    return loss, {"kl": float(point), **_metrics(beta * ratios_B.detach(), liked_B)}


def _mismatched(rows: Sequence[Encoded]) -> list[Encoded]:
    """Each prompt with the next row's answer."""
    return [Encoded(row.prompt, other.answer) for row, other in zip(rows, [*rows[1:], rows[0]], strict=True)]


def _thumbs(context: PolicyContext) -> list[Thumb]:
    """What is longer than `max_length` is left out rather than cut, since its end matters most."""
    found = [
        Thumb(encode(context.base, row.prompt, row.completion), row.label, row.weight)
        for row in context.unpaired
        if row.weight > 0
    ]
    left = [thumb for thumb in found if len(thumb.row) <= context.settings.max_length]
    if not left:
        raise StageFailed("no lone thumbs are left to train the policy on")
    return left


def _metrics(rewards_B: Tensor, liked_B: Tensor) -> dict[str, float]:
    """TRL's names; what a step has no answers for is left out."""
    sides = {"rewards/chosen": rewards_B[liked_B], "rewards/rejected": rewards_B[~liked_B]}
    return {name: float(values.mean()) for name, values in sides.items() if len(values)}
