"""Trains the policy against the reward model, from the anchor or from the champion."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from infra.contracts.routing import BASE_VERSION
from infra.registry.cycles import CycleState
from trainer import data
from trainer.conversations import credited
from trainer.cycle import Result
from trainer.data import read_table
from trainer.errors import StageFailed
from trainer.methods.policy import SAMPLING, PolicyContext, PolicyResult, policy_method
from trainer.model import CONFIG, attach_fresh, load_adapter, remove_adapter, save_adapter
from trainer.progress import StageProgress
from trainer.rewarding import Reward
from trainer.rewards.ensemble import load_reward
from trainer.stages.material import Material

POLICY, ANCHOR = "policy", "anchor"


@dataclass(frozen=True, slots=True)
class Start:
    """Where the policy begins. `parent` is a published version, `files` None a fresh LoRA on the base."""

    parent: str | None
    files: Path | None


def policy(material: Material, part: Path, progress: StageProgress) -> Result:
    base, work, seed = material.base, material.holding.work, material.settings.seed + 2
    sft = work.at(CycleState.SFT) / "adapter"
    start = _start(material, sft if sft.is_dir() else None)
    reward = load_reward(base, work.at(CycleState.REWARD) / "reward")
    if sft.is_dir():
        load_adapter(base, ANCHOR, sft)
    _attach(material, start, seed)
    result = _train(material, reward, ANCHOR if sft.is_dir() else None, seed, progress)
    sha256 = save_adapter(base, POLICY, part / "adapter")
    for name in (POLICY, *([ANCHOR] if sft.is_dir() else [])):
        remove_adapter(base, name)
    reward.close()
    (part / "history.json").write_text(json.dumps(result.history))
    rank = json.loads((part / "adapter" / CONFIG).read_text())["r"]
    seeds = {"sft": seed - 2, "reward": seed - 2, "judge": seed - 1, "policy": seed}
    return {"sha256": sha256, "rank": rank, "parent": start.parent, "seeds": seeds, "metrics": result.metrics}


def _start(material: Material, sft: Path | None) -> Start:
    champion = material.champion() if material.settings.init == "champion" else BASE_VERSION
    if champion == BASE_VERSION:
        return Start(None, sft)
    return Start(champion, material.adapter_files(champion))


def _attach(material: Material, start: Start, seed: int) -> None:
    if start.files is None:
        attach_fresh(material.base, POLICY, material.settings, seed)
    else:
        load_adapter(material.base, POLICY, start.files)


def _train(material: Material, reward: Reward, anchor: str | None, seed: int, progress: StageProgress) -> PolicyResult:
    prompts = material.prompts("train")
    if not prompts and material.settings.method in SAMPLING:
        raise StageFailed(
            f"dataset {material.dataset_manifest.dataset_id} has no train prompts to sample from that leave room for"
            f" trainer.policy_max_new_tokens ({material.settings.policy_max_new_tokens})"
        )
    samples = material.holding.work.root / f"samples-{material.holding.lease.epoch}"
    context = PolicyContext(
        base=material.base,
        adapter=POLICY,
        anchor=anchor,
        settings=material.settings,
        seed=seed,
        directory=samples,
        samples_name=material.samples_name,
        sampler=material.sampler,
        reward=reward,
        prompts=prompts,
        pairs=data.preferences(read_table(material.dataset, "preference", "train")),
        unpaired=credited(
            data.unpaired(read_table(material.dataset, "unpaired", "train")), material.settings.conversation_discount
        ),
        demonstrations=data.demonstrations(read_table(material.dataset, "demonstrations", "train")),
        progress=progress,
    )
    try:
        return policy_method(material.settings.method)(context)
    finally:
        shutil.rmtree(samples, ignore_errors=True)
