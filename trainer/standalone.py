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
from trainer.data import Preference, read_table
from trainer.doubts import about_demonstrations, about_pairs, doubts_alone, doubts_of
from trainer.findings import Warnings
from trainer.methods import reward as reward_method
from trainer.methods import sft as sft_method
from trainer.methods.policy import PolicyContext
from trainer.model import Base, attach_fresh, load_base, save_adapter
from trainer.progress import Progress
from trainer.reward_metrics import describe
from trainer.rewarding import DESCRIPTION, RewardModel
from trainer.stages.reward import OTHER_VARIANT, judged
from trainer.transformers_sampler import TransformersSampler
from trainer.warm_start import learns_from_pairs
from trainer.warm_start import train_policy as train_by_method

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
    warnings = doubts_alone(about_demonstrations(base, settings.max_length, rows))
    attach_fresh(base, "sft", settings, settings.seed)
    metrics = sft_method.train(base, rows, adapter="sft", settings=settings, seed=settings.seed, progress=progress)
    return {"sha256": save_adapter(base, "sft", out), "metrics": metrics, "warnings": warnings}


def train_reward(model: Path, source: Path, out: Path, settings: TrainerSettings, progress: Progress) -> dict[str, Any]:
    """Saves the variant that the settings ask for; `other_variant` in the result is measured and thrown away."""
    base = _open(model, out, settings)
    held_out = data.preferences(rows_of(source, "preference", "test"))
    warnings, features = _doubts(base, source, settings), settings.reward_features
    trained = _fit_reward(base, source, settings, features=features, progress=progress)
    metrics = describe(judged(trained, held_out))
    sha256 = trained.save(out, metrics)
    found = {"sha256": sha256, "features": features, "metrics": metrics, "warnings": warnings}
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
            reward=RewardModel.load(base, reward, "reward") if reward else None,
            progress=progress,
            **_rows(base, source, settings),
        )
        warnings = doubts_of(context)
        result = train_by_method(context, reference=None)
    return {"sha256": save_adapter(base, "policy", out), "metrics": result.metrics, "warnings": warnings}


def _rows(base: Base, source: Path, settings: TrainerSettings) -> dict[str, Any]:
    """The fields of a PolicyContext that the method learns from."""
    if settings.method == "dpo":
        return {"pairs": data.preferences(rows_of(source, "preference", "train"))}
    if settings.method == "kto":
        return {"unpaired": data.unpaired(rows_of(source, "unpaired", "train"))}
    room = settings.max_length - settings.policy_max_new_tokens
    judged = data.preferences(rows_of(source, "preference", "train")) if learns_from_pairs(settings) else []
    shown = data.demonstrations(rows_of(source, "demonstrations", "train")) if settings.ppo_ptx else []
    asked = data.prompts(rows_of(source, "prompts", "train"))
    return {"prompts": data.fitting(base.tokenizer, asked, room), "demonstrations": shown, "pairs": judged}


def _doubts(base: Base, source: Path, settings: TrainerSettings) -> Warnings:
    """About what a reward model is to learn from."""
    ties = data.ties(rows_of(source, "ties", "train")) if source.is_dir() else []
    pairs = data.preferences(rows_of(source, "preference", "train"))
    return doubts_alone(about_pairs(base, settings.max_length, pairs, ties))


def _open(model: Path, out: Path, settings: TrainerSettings) -> Base:
    """Whether `out` can be written is known before anything is trained. Raises SettingsError, NotAModel."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out: {out} is no directory and can't be made one ({error.strerror})") from None
    torch.set_num_threads(settings.threads)
    return load_base(model)


def _fit_reward(
    base: Base, source: Path, settings: TrainerSettings, *, features: bool, progress: Progress
) -> RewardModel:
    return reward_method.train(
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
    return {"features": features, "metrics": describe(judged(other, held_out))}
