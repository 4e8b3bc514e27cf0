"""The model card's figures: how a reward model does on choices of raters that trained nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trainer.batches import encode
from trainer.data import Preference
from trainer.reward_metrics import Judged, describe
from trainer.rewarding import Reward
from trainer.rewards.calibration import calibration, calibration_error


@dataclass(frozen=True, slots=True)
class Scored:
    """Held-out choices and every member's scores of both answers. P: pairs, M: members."""

    pairs: Sequence[Preference]
    longer_P: Sequence[int]  # tokens of the chosen answer less those of the rejected one
    chosen_PM: Tensor
    rejected_PM: Tensor


def measure(model: Reward, held_out: Sequence[Preference]) -> dict[str, Any]:
    """The model card's figures. Where held-out raters gave enough pairs the model is left with their temperature."""
    scored = score_pairs(model, held_out)
    rows = judged(model, scored)
    calibrated = calibration(rows)
    model.temperature *= calibrated.get("temperature", 1.0)
    style = {"style_coefficients": dict(model.style_coefficients)} if model.style_coefficients else {}
    return {**describe(rows), **calibration_error(rows), **calibrated, **style, **_members(scored)}


def score_pairs(model: Reward, pairs: Sequence[Preference]) -> Scored:
    """With features, corrections are left out as in training."""
    usable = [pair for pair in pairs if pair.sampled or not model.sees_features]
    chosen = [encode(model.base, pair.prompt, pair.chosen) for pair in usable]
    rejected = [encode(model.base, pair.prompt, pair.rejected) for pair in usable]
    longer_P = [len(one.answer) - len(other.answer) for one, other in zip(chosen, rejected, strict=True)]
    scores = model.member_scores([*chosen, *rejected])
    return Scored(usable, longer_P, scores[: len(usable)], scores[len(usable) :])


def judged(model: Reward, scored: Scored) -> list[Judged]:
    """Each pair as the model sees it."""
    margins_P = (model.combine(scored.chosen_PM) - model.combine(scored.rejected_PM)).tolist()
    return [
        Judged(margin, float(longer), pair.rater, pair.source, pair.segment)
        for margin, longer, pair in zip(margins_P, scored.longer_P, scored.pairs, strict=True)
    ]


def _members(scored: Scored) -> dict[str, Any]:
    """Of an ensemble: each member's accuracy, and the share of pairs whose better answer is the same to all."""
    pairs, members = scored.chosen_PM.shape
    if members == 1 or not pairs:
        return {}
    higher_PM = scored.chosen_PM > scored.rejected_PM
    agreed_P = higher_PM.all(1) | ~higher_PM.any(1)
    return {"member_accuracy": higher_PM.float().mean(0).tolist(), "member_agreement": float(agreed_P.float().mean())}
