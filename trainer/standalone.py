"""Training without services: a model directory and rows in, an adapter or reward model directory out."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet
import torch

from infra.settings import SettingsError, TrainerSettings
from trainer import data
from trainer.conversations import credited
from trainer.data import Preference, read_table
from trainer.methods import reward as reward_method
from trainer.methods import sft as sft_method
from trainer.methods.policy import PolicyContext, policy_method
from trainer.model import Base, attach_fresh, load_base, save_adapter
from trainer.progress import Progress
from trainer.rewarding import DESCRIPTION, Reward
from trainer.rewards.card import measure
from trainer.rewards.ensemble import load_reward
from trainer.stages.reward import OTHER_VARIANT
from trainer.transformers_sampler import TransformersSampler

Rows = list[dict[str, Any]]


def rows_of(source: Path, table: str, split: str) -> Rows:
    """From a dataset directory, or a Parquet or JSONL file, which is all `train`. Raises SettingsError."""
    if source.is_dir():
        return read_table(source, table, split)
    if not source.is_file():
        raise SettingsError(f"--data: {source} does not exist")
    if split != "train":
        return []
    try:
        rows = _parquet(source) if source.suffix == ".parquet" else _json_lines(source)
    except ValueError as error:  # pyarrow's errors of format are ValueErrors too
        raise SettingsError(f"--data: {source} is neither a dataset, nor Parquet, nor JSONL ({error})") from None
    if not all(isinstance(row, dict) for row in rows):
        raise SettingsError(f"--data: every line of {source} must be a JSON object, one row each")
    return rows


def _parquet(source: Path) -> Rows:
    return list(pyarrow.parquet.ParquetFile(source).read().to_pylist())


def _json_lines(source: Path) -> Rows:
    return [json.loads(line) for line in source.read_text().splitlines() if line.strip()]


def train_sft(model: Path, source: Path, out: Path, settings: TrainerSettings, progress: Progress) -> dict[str, Any]:
    base = _open(model, out, settings)
    rows = data.demonstrations(rows_of(source, "demonstrations", "train"))
    attach_fresh(base, "sft", settings, settings.seed)
    metrics = sft_method.train(base, rows, adapter="sft", settings=settings, seed=settings.seed, progress=progress)
    return {"sha256": save_adapter(base, "sft", out), "metrics": metrics}


def train_reward(model: Path, source: Path, out: Path, settings: TrainerSettings, progress: Progress) -> dict[str, Any]:
    """Saves the variant that the settings ask for; `other_variant` in the result is measured and thrown away."""
    base = _open(model, out, settings)
    held_out = data.preferences(rows_of(source, "preference", "test"))
    features = settings.reward_features
    trained = _fit_reward(base, source, settings, features=features, progress=progress)
    metrics = measure(trained, held_out)
    sha256 = trained.save(out, metrics)
    found = {"sha256": sha256, "features": features, "metrics": metrics}
    return {**found, OTHER_VARIANT: _compare(base, source, held_out, settings, progress)} if held_out else found


def train_policy(
    model: Path, source: Path, reward: Path | None, out: Path, settings: TrainerSettings, progress: Progress
) -> dict[str, Any]:
    """From the base. What learns from samples of its own takes them from the model in memory, against `reward`."""
    if reward is not None and not (reward / DESCRIPTION).is_file():
        raise SettingsError(f"--reward: {reward} is no reward model ({DESCRIPTION} is missing)")
    base = _open(model, out, settings)
    attach_fresh(base, "policy", settings, settings.seed)
    with TemporaryDirectory() as samples:
        context = PolicyContext(
            base=base,
            adapter="policy",
            anchor=None,
            settings=settings,
            seed=settings.seed,
            directory=Path(samples),
            samples_name="train-standalone",
            sampler=TransformersSampler(base),
            reward=load_reward(base, reward, "reward") if reward else None,
            progress=progress,
            **_rows(base, source, settings),
        )
        result = policy_method(settings.method)(context)
    return {"sha256": save_adapter(base, "policy", out), "metrics": result.metrics}


def _rows(base: Base, source: Path, settings: TrainerSettings) -> dict[str, Any]:
    """The fields of a PolicyContext that the method learns from."""
    if settings.method == "dpo":
        return {"pairs": data.preferences(rows_of(source, "preference", "train"))}
    if settings.method == "kto":
        rows = data.unpaired(rows_of(source, "unpaired", "train"))
        return {"unpaired": credited(rows, settings.conversation_discount)}
    room = settings.max_length - settings.policy_max_new_tokens
    shown = data.demonstrations(rows_of(source, "demonstrations", "train")) if settings.ppo_ptx else []
    asked = data.prompts(rows_of(source, "prompts", "train"))
    return {"prompts": data.fitting(base.tokenizer, asked, room), "demonstrations": shown}


def _open(model: Path, out: Path, settings: TrainerSettings) -> Base:
    """Whether `out` can be written is known before anything is trained. Raises SettingsError, NotAModel."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out: {out} is no directory and can't be made one ({error.strerror})") from None
    torch.set_num_threads(settings.threads)
    return load_base(model)


def _fit_reward(base: Base, source: Path, settings: TrainerSettings, *, features: bool, progress: Progress) -> Reward:
    return reward_method.train_ensemble(
        base,
        data.preferences(rows_of(source, "preference", "train")),
        data.ties(rows_of(source, "ties", "train")) if source.is_dir() else [],
        name="with_features" if features else "bare",
        settings=settings,
        seed=settings.seed,
        features=features,
        progress=progress,
    )


def _compare(
    base: Base, source: Path, held_out: Sequence[Preference], settings: TrainerSettings, progress: Progress
) -> dict[str, Any]:
    features = not settings.reward_features

    def report(step: int, total: int, metrics: dict[str, float]) -> None:
        progress(step, total, {f"{OTHER_VARIANT}/{name}": value for name, value in metrics.items()})

    other = _fit_reward(base, source, settings, features=features, progress=report)
    return {"features": features, "metrics": measure(other, held_out)}
