"""Trains the policy, from the anchor or from the champion, by the method that is set or that the data speaks for."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.registry.cycles import CycleState
from infra.settings import TrainerSettings
from trainer import data
from trainer.checks import check_accuracy, check_room
from trainer.conversations import credited
from trainer.cycle import Result
from trainer.data import Prompt, read_table
from trainer.errors import StageFailed
from trainer.findings import Warnings, drifted, settled, stopped_early
from trainer.history import Trained
from trainer.methods.policy import SAMPLING, PolicyContext
from trainer.model import CONFIG, attach_fresh, load_adapter, remove_adapter, save_adapter
from trainer.progress import StageProgress
from trainer.raters import RaterFilter, not_judges
from trainer.rewarding import Reward
from trainer.rewards.ensemble import load_reward
from trainer.stages.choosing import chosen_method, reward_accuracy
from trainer.stages.material import Material
from trainer.stages.start import Start, start_of, unseen_rows
from trainer.warm_start import learns_from_pairs, train_policy

POLICY, ANCHOR, REFERENCE = "policy", "anchor", "reference"


@dataclass(frozen=True, slots=True)
class Task:
    """One policy to train. `settings.method` is the one that was chosen; `anchor` is an SFT adapter, None the base."""

    settings: TrainerSettings
    start: Start
    anchor: Path | None
    champion: Path | None
    prompts: Sequence[Prompt]  # to sample from
    seed: int

    @property
    def samples(self) -> bool:
        """Whether it learns from samples of its own, against a reward model."""
        return self.settings.method in SAMPLING

    @property
    def others(self) -> dict[str, Path]:
        """Adapters beside the policy, by the names that they have in memory."""
        judged = not self.samples or learns_from_pairs(self.settings)
        files = {ANCHOR: self.anchor, REFERENCE: self.champion if judged else None}
        return {name: directory for name, directory in files.items() if directory is not None}

    @property
    def kl_to(self) -> str | None:
        """What samples are held to."""
        return ANCHOR if self.anchor else None

    @property
    def reference(self) -> str | None:
        """What learning from judgements is held to: the champion where the policy starts from it."""
        return REFERENCE if REFERENCE in self.others else self.kl_to


def policy(material: Material, part: Path, progress: StageProgress) -> Result:
    start, seed = start_of(material), material.settings.seed + 2
    choice = chosen_method(material, start)
    settings = material.settings.model_copy(update={"method": choice.method})
    sft = material.holding.work.at(CycleState.SFT) / "adapter"
    champion = material.adapter_files(start.parent) if start.parent else None
    prompts = _prompts(material) if choice.method in SAMPLING else []
    task = Task(settings, start, sft if sft.is_dir() else None, champion, prompts, seed)
    warnings = _doubts(material, task)
    with _attached(material, task):
        result = _train(material, task, progress)
        sha256 = save_adapter(material.base, POLICY, part / "adapter")
    (part / "history.json").write_text(json.dumps(result.history))
    return {
        "sha256": sha256,
        "rank": json.loads((part / "adapter" / CONFIG).read_text())["r"],
        "parent": start.parent,
        "method": choice.method,
        "method_reason": choice.reason,
        "seeds": {"sft": seed - 2, "reward": seed - 2, "judge": seed - 1, "policy": seed},
        "metrics": result.metrics,
        "warnings": [*warnings, *stopped_early("policy", result.stopped), *drifted(result.warnings)],
    }


def _doubts(material: Material, task: Task) -> Warnings:
    if not task.samples:
        return []
    asked = len(read_table(material.dataset, "prompts", "train"))
    found = (check_accuracy(reward_accuracy(material)), check_room(len(task.prompts), asked))
    return settled([finding for finding in found if finding])


@contextmanager
def _attached(material: Material, task: Task) -> Iterator[None]:
    """The policy, fresh or a copy of what it starts from, beside what it is held to."""
    base, begins = material.base, task.champion or task.anchor
    for name, directory in task.others.items():
        load_adapter(base, name, directory)
    if begins is None:
        attach_fresh(base, POLICY, task.settings, task.seed)
    else:
        load_adapter(base, POLICY, begins)
    yield
    for name in (POLICY, *task.others):
        remove_adapter(base, name)


def _train(material: Material, task: Task, progress: StageProgress) -> Trained:
    work, lease = material.holding.work, material.holding.lease
    samples = work.root / f"samples-{lease.epoch}"
    reward = _reward(material, task) if task.samples else None
    guard = _guard(material) if task.samples else None
    context = PolicyContext(
        base=material.base,
        adapter=POLICY,
        anchor=task.kl_to if task.samples else task.reference,
        settings=task.settings,
        seed=task.seed,
        directory=samples,
        samples_name=material.samples_name,
        sampler=material.sampler if task.samples else None,
        reward=reward,
        held_out=guard,
        progress=progress,
        checkpoints=material.checkpoints("policy"),
        **_rows(material, task),
    )
    try:
        return train_policy(context, reference=task.reference)
    finally:
        shutil.rmtree(samples, ignore_errors=True)
        for model in (reward, guard):
            if model is not None:
                model.close()


def _reward(material: Material, task: Task) -> Reward:
    """Loaded only where samples are scored. Raises StageFailed where there is none."""
    work = material.holding.work
    if (skipped := (work.result(CycleState.REWARD) or {}).get("skipped")) is not None:
        raise StageFailed(f"{task.settings.method} needs a reward model, and there is none: {skipped}")
    return load_reward(material.base, work.at(CycleState.REWARD) / "reward")


def _guard(material: Material) -> Reward | None:
    """Where its raters gave enough pairs."""
    directory = material.holding.work.at(CycleState.REWARD) / "guard"
    return load_reward(material.base, directory) if directory.is_dir() else None


def _rows(material: Material, task: Task) -> dict[str, Any]:
    """The fields of a PolicyContext that this task learns from, and no other table is read."""
    found, may_teach = dict[str, Any](), _teachers(material)
    if learns_from_pairs(task.settings):
        pairs = data.preferences(unseen_rows(material, task.start, "preference"))
        found["pairs"] = [row for row in pairs if may_teach(row.rater)]
    if task.settings.method == "kto":
        thumbs = data.unpaired(unseen_rows(material, task.start, "unpaired"))
        known = [row for row in thumbs if may_teach(row.rater)]
        found["unpaired"] = credited(known, task.settings.conversation_discount)
    if task.settings.method == "ppo" and task.settings.ppo_ptx:
        found["demonstrations"] = data.demonstrations(read_table(material.dataset, "demonstrations", "train"))
    return {**found, "prompts": task.prompts}


def _teachers(material: Material) -> RaterFilter:
    """Nobody whose votes made the judge or the guard: the policy never meets those."""
    settings, models = material.settings, (material.holding.work.result(CycleState.REWARD) or {})["models"]
    guarded = settings.guard_share if "guard" in models else 0.0
    return not_judges((settings.judge_share if "judge" in models else 0.0) + guarded)


def _prompts(material: Material) -> list[Prompt]:
    if prompts := material.prompts("train"):
        return prompts
    raise StageFailed(
        f"dataset {material.dataset_manifest.dataset_id} has no train prompts to sample from that leave room for"
        f" trainer.policy_max_new_tokens ({material.settings.policy_max_new_tokens})"
    )
