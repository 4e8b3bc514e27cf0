"""KTO: lone thumbs, each against what the policy gains on average. Ethayarajh et al. 2024, arXiv 2402.01306.

The reference point is estimated from each answer behind its neighbour's prompt (section 3.3). Up and down weigh the
same in sum, by the observed ratio. Each row is one rater's judgement with a weight of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.batches import Encoded, encode
from trainer.errors import StageFailed
from trainer.losses.preference import kto_loss, kto_reference_point, kto_weights
from trainer.losses.tokens import weighted_mean
from trainer.methods.policy import PolicyContext, PolicyResult
from trainer.model import using
from trainer.offline import answer_sums, reference_logprobs, steps, train_on_rows


@dataclass(frozen=True, slots=True)
class Thumb:
    """One judged answer, encoded."""

    row: Encoded
    liked: bool
    weight: float


def train(context: PolicyContext) -> PolicyResult:
    """Raises StageFailed where nothing is left."""
    thumbs = _thumbs(context)
    liked_B = torch.tensor([thumb.liked for thumb in thumbs])
    factors = kto_weights(liked_B, torch.tensor([thumb.weight for thumb in thumbs]))
    reference_B = reference_logprobs(context, [thumb.row for thumb in thumbs])

    def loss_of(picked: list[int]) -> tuple[Tensor, dict[str, float]]:
        return _step(context, [thumbs[index] for index in picked], reference_B[picked], factors)

    lengths = [len(thumb.row) for thumb in thumbs]  # a step of like lengths would often hold one kind of thumb alone
    return train_on_rows(context, steps(context, lengths, alike=False), loss_of)


def _step(
    context: PolicyContext, thumbs: Sequence[Thumb], reference_B: Tensor, factors: tuple[float, float]
) -> tuple[Tensor, dict[str, float]]:
    beta, device = context.settings.kto_beta, reference_B.device
    point = _reference_point(context, [thumb.row for thumb in thumbs])
    ratios_B = answer_sums(context.base, [thumb.row for thumb in thumbs]) - reference_B
    liked_B = torch.tensor([thumb.liked for thumb in thumbs], device=device)
    weights_B = torch.tensor([thumb.weight for thumb in thumbs], device=device) * torch.where(liked_B, *factors)
    loss = weighted_mean(kto_loss(ratios_B, liked_B, point, beta=beta), weights_B)
    return loss, {"kl": float(point), **_metrics(beta * ratios_B.detach(), liked_B)}


@torch.no_grad()
def _reference_point(context: PolicyContext, rows: Sequence[Encoded]) -> Tensor:
    moved = _mismatched(rows)
    mine_B = answer_sums(context.base, moved)
    with using(context.base, context.anchor):
        return kto_reference_point(mine_B - answer_sums(context.base, moved))


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
