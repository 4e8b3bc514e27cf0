"""Trains the reward model of the policy, and beside it a judge on other people's votes that the policy never meets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from infra.settings import TrainerSettings
from trainer import data
from trainer.batches import encode
from trainer.cycle import Result
from trainer.data import Preference, Tie, read_table
from trainer.methods import reward as method
from trainer.progress import Progress, StageProgress
from trainer.publish import reward_name
from trainer.raters import RaterFilter, judges, not_judges
from trainer.reward_metrics import Judged, describe
from trainer.rewarding import RewardModel
from trainer.stages.material import Material

log = structlog.get_logger()

LEAST_JUDGE_PAIRS = 20  # fewer teach nothing: then there is no judge, and its gate is inconclusive
OTHER_VARIANT = "other_variant"


@dataclass(frozen=True, slots=True)
class Task:
    """One model to train: whose votes, and whether its head sees log-probabilities."""

    role: str
    raters: RaterFilter
    seed: int
    features: bool


def reward(material: Material, part: Path, progress: StageProgress) -> Result:
    pairs = data.preferences(read_table(material.dataset, "preference", "train"))
    if (skipped := _too_few(pairs, material.settings)) is not None:
        log.warning("reward_skipped", reason=skipped)
        return {"models": {}, "metrics": {}, "accuracy": None, "skipped": skipped}
    ties = data.ties(read_table(material.dataset, "ties", "train"))
    share, seed, features = material.settings.judge_share, material.settings.seed, material.settings.reward_features
    models = {
        "reward": _train(material, part, Task("reward", not_judges(share), seed, features), pairs, ties, progress)
    }
    if sum(judges(share)(pair.rater) for pair in pairs) >= LEAST_JUDGE_PAIRS:
        task = Task("judge", judges(share), seed + 1, features)
        models["judge"] = _train(material, part, task, pairs, ties, progress.part("judge"))
    else:
        log.warning("judge_skipped", pairs_needed=LEAST_JUDGE_PAIRS, judge_share=share)
    metrics = {role: model["metrics"] for role, model in models.items()}
    if material.settings.reward_compare:
        task = Task(OTHER_VARIANT, not_judges(share), seed, not features)
        other = _train(material, part, task, pairs, ties, progress.part(OTHER_VARIANT))
        metrics[OTHER_VARIANT] = {"features": not features, **other["metrics"]}
    return {"models": models, "metrics": metrics, "accuracy": metrics["reward"].get("accuracy")}


def _too_few(pairs: Sequence[Preference], settings: TrainerSettings) -> str | None:
    """Why there will be no reward model: a policy that learns from thumbs or pairs themselves needs none."""
    if len(pairs) < settings.min_pairs:
        return f"{len(pairs)} preference pairs, trainer.min_pairs asks for {settings.min_pairs}"
    if not any(map(not_judges(settings.judge_share), (pair.rater for pair in pairs))):
        return f"all {len(pairs)} preference pairs are by raters of the judge (trainer.judge_share)"
    return None


def _train(
    material: Material, part: Path, task: Task, pairs: Sequence[Preference], ties: Sequence[Tie], progress: Progress
) -> dict[str, Any]:
    """Trains, measures on held-out raters and saves into `part/<role>`; the base is left as it was."""
    model = method.train(
        material.base,
        [pair for pair in pairs if task.raters(pair.rater)],
        [tie for tie in ties if task.raters(tie.rater)],
        name=task.role,
        settings=material.settings,
        seed=task.seed,
        features=task.features,
        progress=progress,
    )
    held_out = data.preferences(read_table(material.dataset, "preference", "test"))
    metrics = describe(judged(model, held_out))
    sha256 = model.save(part / task.role, metrics)
    model.close()
    row = material.row
    name = reward_name(row.alias, row.cycle_id, task.role, sha256)
    return {"name": name, "sha256": sha256, "features": task.features, "seed": task.seed, "metrics": metrics}


def judged(model: RewardModel, pairs: Sequence[Preference]) -> list[Judged]:
    """Each pair as the model sees it; with features, corrections are left out as in training."""
    usable = [pair for pair in pairs if pair.sampled or not model.sees_features]
    chosen = [encode(model.base, pair.prompt, pair.chosen) for pair in usable]
    rejected = [encode(model.base, pair.prompt, pair.rejected) for pair in usable]
    scores = model.score_encoded([*chosen, *rejected]).tolist()
    return [
        Judged(
            margin=scores[i] - scores[i + len(usable)],
            longer=float(len(chosen[i].answer) - len(rejected[i].answer)),
            rater=pair.rater,
            source=pair.source,
        )
        for i, pair in enumerate(usable)
    ]
