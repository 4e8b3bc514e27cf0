"""Trains the reward model of the policy, and beside it two on other people's votes that the policy never meets: a judge
for the gates, and a guard that watches the policy's stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from infra.settings import TrainerSettings
from trainer import data
from trainer.cycle import Result
from trainer.data import Preference, Tie, read_table
from trainer.findings import stopped_early
from trainer.methods import reward as method
from trainer.progress import Progress, StageProgress
from trainer.publish import reward_name
from trainer.raters import RaterFilter, guards, judges, not_judges
from trainer.rewards.card import measure
from trainer.stages.material import Material

log = structlog.get_logger()

LEAST_PAIRS = 20  # fewer teach a judge or a guard nothing: then there is none, and the judge's gate is inconclusive
OTHER_VARIANT = "other_variant"


@dataclass(frozen=True, slots=True)
class Task:
    """One model to train: whose votes, and whether its head sees log-probabilities."""

    role: str
    raters: RaterFilter
    seed: int
    features: bool
    members: int = 1


@dataclass(frozen=True, slots=True)
class Rows:
    """The dataset's train rows."""

    pairs: Sequence[Preference]
    ties: Sequence[Tie]

    def of(self, raters: RaterFilter) -> "Rows":
        return Rows([row for row in self.pairs if raters(row.rater)], [row for row in self.ties if raters(row.rater)])


def reward(material: Material, part: Path, progress: StageProgress) -> Result:
    rows = Rows(
        data.preferences(read_table(material.dataset, "preference", "train")),
        data.ties(read_table(material.dataset, "ties", "train")),
    )
    wanted, *beside = tasks(material.settings, rows)
    if (skipped := _too_few(rows, wanted, material.settings)) is not None:
        log.warning("reward_skipped", reason=skipped)
        return {"models": {}, "metrics": {}, "accuracy": None, "skipped": skipped}
    models = {wanted.role: _train(material, part, wanted, rows, progress)}
    models |= {task.role: _train(material, part, task, rows, progress.part(task.role)) for task in beside}
    metrics = {role: model["metrics"] for role, model in models.items()}
    if material.settings.reward_compare:
        other = Task(OTHER_VARIANT, wanted.raters, wanted.seed, not wanted.features)
        found = _train(material, part, other, rows, progress.part(OTHER_VARIANT))
        metrics[OTHER_VARIANT] = {"features": other.features, **found["metrics"]}
    warnings = [warning for model in models.values() for warning in model.pop("warnings")]
    return {"models": models, "metrics": metrics, "accuracy": metrics["reward"].get("accuracy"), "warnings": warnings}


def _too_few(rows: Rows, wanted: Task, settings: TrainerSettings) -> str | None:
    """Why there will be no reward model: a policy that learns from thumbs or pairs themselves needs none."""
    if len(rows.pairs) < settings.min_pairs:
        return f"{len(rows.pairs)} preference pairs, trainer.min_pairs asks for {settings.min_pairs}"
    if not rows.of(wanted.raters).pairs:
        return f"all {len(rows.pairs)} preference pairs are by raters of the judge (trainer.judge_share)"
    return None


def tasks(settings: TrainerSettings, rows: Rows) -> list[Task]:
    """The reward model's first; a judge and a guard where their raters gave enough pairs.

    Without a guard its raters teach the reward model; the judge's never do, whatever they are.
    """
    share, seed, features = settings.judge_share, settings.seed, settings.reward_features
    judge = Task("judge", judges(share), seed + 1, features)
    guard = Task("guard", guards(share, settings.guard_share), seed + 3, features)
    beside = [task for task in (judge, guard) if _enough(task, rows)]
    taken = share + settings.guard_share if guard in beside else share
    return [Task("reward", not_judges(taken), seed, features, settings.reward_members), *beside]


def _enough(task: Task, rows: Rows) -> bool:
    pairs = len(rows.of(task.raters).pairs)
    if pairs < LEAST_PAIRS:
        log.warning(f"{task.role}_skipped", pairs=pairs, pairs_needed=LEAST_PAIRS)
    return pairs >= LEAST_PAIRS


def _train(material: Material, part: Path, task: Task, rows: Rows, progress: Progress) -> dict[str, Any]:
    """Trains, measures on held-out raters and saves into `part/<role>`; the base is left as it was."""
    theirs = rows.of(task.raters)
    model = method.train(
        material.base,
        theirs.pairs,
        theirs.ties,
        name=task.role,
        settings=material.settings.model_copy(update={"reward_members": task.members}),
        seed=task.seed,
        features=task.features,
        progress=progress,
        checkpoints=material.checkpoints(f"reward-{task.role}"),
    )
    metrics = measure(model, data.preferences(read_table(material.dataset, "preference", "test")))
    sha256 = model.save(part / task.role, metrics)
    model.close()
    row = material.row
    name = reward_name(row.alias, row.cycle_id, task.role, sha256)
    found = {"name": name, "sha256": sha256, "features": task.features, "seed": task.seed, "metrics": metrics}
    return {**found, "warnings": stopped_early(task.role, model.stopped)}
