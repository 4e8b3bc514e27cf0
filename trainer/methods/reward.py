"""Reward model training: Bradley-Terry on strict choices, Davidson's extension where there are ties.

Bradley & Terry 1952 (10.2307/2334029), Davidson 1970 (10.1080/01621459.1970.10481082); as in Ouyang et al. 2022, arXiv
2203.02155, but each row is one rater's judgement with a weight of its own: loss = sum(w * l) / sum(w).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infra.settings import TrainerSettings
from trainer.batches import encode, make_batch
from trainer.data import Message, Preference, Prompt, Tie
from trainer.errors import StageFailed
from trainer.lines import Encoded
from trainer.losses.preference import bradley_terry, tie_loss
from trainer.losses.tokens import weighted_mean
from trainer.model import Base, adapter_parameters, attach_adapter, using
from trainer.optimizing import HEAD_RATE, apply_gradients, cosine, set_rates, shuffled_batches, threads
from trainer.progress import Progress, silent
from trainer.rewarding import Head, RewardModel

FEATURES_RATE = 40.0  # three weights that tell right from wrong: at 10, 300 pairs end before they are found


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers to one prompt; the first won unless it is a tie."""

    first: Encoded
    second: Encoded
    tie: bool
    weight: float

    @property
    def length(self) -> int:
        return max(len(self.first), len(self.second))


def train(
    base: Base,
    pairs: Sequence[Preference],
    ties: Sequence[Tie],
    *,
    name: str,
    settings: TrainerSettings,
    seed: int,
    features: bool,
    progress: Progress = silent,
) -> RewardModel:
    """Attaches the adapter `name` to the base. Raises StageFailed where no rows are left to train on.

    With features, a correction's row is left out: a person's text has log-probabilities of another size (a mean of
    -6.8 against -.5), which flips the sign of what the head learns from them.
    """
    comparisons = _comparisons(base, pairs, ties, features=features, longest=settings.max_length)
    if not comparisons:
        raise StageFailed("no preference pairs are left to train a reward model on")
    with threads(settings.threads):
        attach_adapter(base, name, rank=settings.reward_rank, alpha=2 * settings.reward_rank, seed=seed)
        model = RewardModel(base, name, Head(base.hidden_size, features=features))
        _fit(model, comparisons, settings, seed, progress)
    return model


def _fit(
    model: RewardModel, comparisons: Sequence[Comparison], settings: TrainerSettings, seed: int, progress: Progress
) -> None:
    features_C2F = _standardised_features(model, comparisons)
    lora = adapter_parameters(model.base, model.name)
    features = list(model.head.features.parameters()) if model.head.features else []
    head = [*model.head.hidden.parameters(), model.head.log_tie]
    rate = settings.reward_learning_rate
    groups = [(lora, rate), (head, HEAD_RATE * rate), (features, FEATURES_RATE * rate)]
    optimizer = torch.optim.AdamW([{"params": those, "lr": lr} for those, lr in groups if those], weight_decay=0.0)
    lengths = [comparison.length for comparison in comparisons]
    epochs = range(settings.reward_epochs)
    batches = [
        batch for epoch in epochs for batch in shuffled_batches(lengths, settings.reward_batch, seed=seed + epoch)
    ]
    with_ties = any(comparison.tie for comparison in comparisons)
    for step, picked in enumerate(batches):
        set_rates(optimizer, cosine(step, len(batches)))
        chosen = [comparisons[index] for index in picked]
        chosen_2CF = None if features_C2F is None else features_C2F[picked].transpose(0, 1).flatten(0, 1)
        with using(model.base, model.name):
            margins_C = _margins(model, chosen, chosen_2CF)
            loss = _loss(margins_C, chosen, model.head.log_tie if with_ties else None)
            loss.backward()
        norm = apply_gradients(optimizer, [*lora, *head, *features])
        progress(step + 1, len(batches), _metrics(loss, margins_C, chosen, norm))


def _margins(model: RewardModel, chosen: Sequence[Comparison], features_2CF: Tensor | None) -> Tensor:
    """Scores of the first answers minus those of the second."""
    rows = [comparison.first for comparison in chosen] + [comparison.second for comparison in chosen]
    first_C, second_C = model.scores(make_batch(model.base, rows), features_2CF).chunk(2)
    return first_C - second_C


def _loss(margins_C: Tensor, chosen: Sequence[Comparison], log_tie: Tensor | None) -> Tensor:
    weights_C = torch.tensor([comparison.weight for comparison in chosen], device=margins_C.device)
    losses_C = bradley_terry(margins_C, log_tie)
    if log_tie is not None:
        tied_C = torch.tensor([comparison.tie for comparison in chosen], device=margins_C.device)
        losses_C = torch.where(tied_C, tie_loss(margins_C, log_tie), losses_C)
    return weighted_mean(losses_C, weights_C)


def _standardised_features(model: RewardModel, comparisons: Sequence[Comparison]) -> Tensor | None:
    """[comparison, side, feature]; they never change, since the base is frozen."""
    rows = [row for comparison in comparisons for row in (comparison.first, comparison.second)]
    features_BF = model.features(rows)
    if features_BF is None:
        return None
    model.head.standardise_by(features_BF)
    return features_BF.view(len(comparisons), 2, -1)


def _comparisons(
    base: Base,
    pairs: Sequence[Preference],
    ties: Sequence[Tie],
    *,
    features: bool,
    longest: int,
) -> list[Comparison]:
    """Encoded rows; what is longer than `longest` is left out rather than cut, since its end matters most."""

    def compared(prompt: Prompt, first: Message, second: Message, *, tie: bool, weight: float) -> Comparison:
        return Comparison(encode(base, prompt, first), encode(base, prompt, second), tie, weight)

    found = [
        compared(pair.prompt, pair.chosen, pair.rejected, tie=False, weight=pair.weight)
        for pair in pairs
        if pair.sampled or not features
    ]
    found += [compared(tie.prompt, tie.completion_a, tie.completion_b, tie=True, weight=tie.weight) for tie in ties]
    return [comparison for comparison in found if comparison.length <= longest and comparison.weight > 0]


def _metrics(loss: Tensor, margins_C: Tensor, chosen: Sequence[Comparison], norm: float) -> dict[str, float]:
    """TRL's names; accuracy over strict choices only."""
    strict = [float(margin) for margin, one in zip(margins_C.detach(), chosen, strict=True) if not one.tie]
    accuracy = sum(margin > 0 for margin in strict) / len(strict) if strict else 0.5
    return {
        "loss": float(loss.detach()),
        "accuracy": accuracy,
        "margin": float(margins_C.detach().mean()),
        "grad_norm": norm,
    }
