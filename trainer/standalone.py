"""Training without services: a model directory and rows in, an adapter or reward model directory out."""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from infra.settings import SettingsError, TrainerSettings
from trainer import data
from trainer.checkpoints import Checkpoints
from trainer.conversations import credited
from trainer.costs import Meter
from trainer.data import Preference, Tie
from trainer.doubts import about_demonstrations, about_pairs, doubts_alone, doubts_of
from trainer.files import TABLES, fingerprint, rows_of
from trainer.findings import Warnings, drifted
from trainer.fitting import Fitted, Used, fit, used
from trainer.hardware import open_base, world_here
from trainer.history import Trained
from trainer.methods import reward as reward_method
from trainer.methods import sft as sft_method
from trainer.methods.policy import PolicyContext
from trainer.model import Base, attach_fresh, save_adapter
from trainer.progress import Progress, StageProgress, silent
from trainer.report_costs import COST
from trainer.rewarding import DESCRIPTION, Reward
from trainer.rewards.card import measure
from trainer.rewards.ensemble import load_reward
from trainer.sinks import Sinks, open_sinks
from trainer.stages.reward import OTHER_VARIANT
from trainer.transformers_sampler import TransformersSampler
from trainer.warm_start import learns_from_pairs
from trainer.warm_start import train_policy as train_by_method

METRICS, CHECKPOINTS = "metrics.jsonl", "checkpoints"


@dataclass(frozen=True, slots=True)
class Job:
    """One training by itself. `method` is sft, reward, or one of the policy's; `reward` the model it is judged by."""

    method: str
    base: Path
    dataset: Path
    out: Path
    settings: TrainerSettings
    reward: Path | None = None
    shared: Path | None = None

    @property
    def kept(self) -> Path:
        """Where all of several processes read and the first one writes; `out` is each one's own."""
        return self.shared or self.out


@dataclass
class Tally:
    """A sink that counts: steps, and the tokens of answers that were sampled for them."""

    samples_per_step: int
    steps: int = 0
    sampled_tokens: float = 0.0

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self.steps = step
        self.sampled_tokens += self.samples_per_step * metrics.get("completions/mean_length", 0.0)

    def part(self, _name: str) -> Sinks:
        return Sinks()

    def __exit__(self, *exception: object) -> None:
        return


Found = tuple[dict[str, Any], Used]  # what is found, hash and metrics among it; and of which rows


def train(job: Job, report: Progress) -> dict[str, Any]:
    """What `--json` prints. Raises SettingsError or NotAModel for what was asked wrongly, else TrainerError."""
    rows_of(job.dataset, TABLES[job.method], "train")  # what is wrong with a file is said before a model is loaded
    if job.reward is not None and not (job.reward / DESCRIPTION).is_file():
        raise SettingsError(f"--reward: {job.reward} is no reward model ({DESCRIPTION} is missing)")
    world = world_here(job.settings)
    found = _lead(job, report) if world.leads else _follow(job)
    world.leave()
    return found


def _lead(job: Job, report: Progress) -> dict[str, Any]:
    meter, settings = Meter(), job.settings
    tally = Tally(settings.policy_prompts * settings.policy_samples)
    _make(job.out)
    with open_sinks(job.out / METRICS, settings.report_to, job.out, job.method) as sinks:
        progress = StageProgress(report, Sinks([tally, sinks]))
        done = meter.of(0.0, lambda: dict(zip(("found", "rows"), _train(job, meter, progress), strict=True)))
    return {**_summary(job, done["rows"], tally, done[COST]["seconds"]), **done["found"]}


def _follow(job: Job) -> dict[str, Any]:
    """As one of several processes that is not the first: does its share, and leaves nothing."""
    with TemporaryDirectory() as own:
        _train(replace(job, out=Path(own), shared=job.out), Meter(), StageProgress(silent))
    return {}


def train_sft(job: Job, base: Base, progress: StageProgress) -> Found:
    rows = data.demonstrations(rows_of(job.dataset, "demonstrations", "train"))
    fitted = fit(base, rows, lambda row: [row.completion], job.settings.max_length)
    warnings = doubts_alone(about_demonstrations(base, job.settings.max_length, rows))
    attach_fresh(base, "sft", job.settings, job.settings.seed)
    trained = sft_method.train(
        base,
        fitted.rows,
        adapter="sft",
        settings=job.settings,
        seed=job.settings.seed,
        progress=progress,
        checkpoints=_checkpoints(job, base),
    )
    return _saved(job, base, "sft", trained, warnings), used(job.settings.sft_epochs, fitted)


def train_reward(job: Job, base: Base, progress: StageProgress) -> Found:
    """Saves the variant that the settings ask for; `other_variant` in the result is measured and thrown away."""
    held_out = data.preferences(rows_of(job.dataset, "preference", "test"))
    pairs, ties = _judgements(job, base)
    features = job.settings.reward_features
    warnings = doubts_alone(about_pairs(base, job.settings.max_length, pairs.given, ties.given))
    trained = _fit_reward(job, base, pairs, ties, features=features, progress=progress)
    metrics = measure(trained, held_out)
    found = {"sha256": trained.save(job.out, metrics), "features": features, "metrics": metrics, "warnings": warnings}
    if held_out:
        part = progress.part(OTHER_VARIANT)
        other = _fit_reward(job, base, pairs, ties, features=not features, progress=part)
        found[OTHER_VARIANT] = {"features": not features, "metrics": measure(other, held_out)}
    shutil.rmtree(job.out / CHECKPOINTS, ignore_errors=True)
    return found, used(job.settings.reward_epochs * (2 if held_out else 1), pairs, ties)


def train_policy(job: Job, base: Base, progress: StageProgress) -> Found:
    """From the base. What learns from samples of its own takes them from the model in memory, against `reward`."""
    settings = job.settings
    attach_fresh(base, "policy", settings, settings.seed)
    rows, fields = _rows(job, base)
    context = PolicyContext(
        base=base,
        adapter="policy",
        anchor=None,
        settings=settings,
        seed=settings.seed,
        directory=job.kept / CHECKPOINTS / "adapters",
        samples_name="train-standalone",
        sampler=TransformersSampler(base),
        reward=load_reward(base, job.reward, "reward") if job.reward else None,
        progress=progress,
        checkpoints=_checkpoints(job, base),
        **fields,
    )
    warnings = doubts_of(context)
    trained = train_by_method(context, reference=None)
    return _saved(job, base, "policy", trained, warnings), rows


TRAINERS: dict[str, Callable[[Job, Base, StageProgress], Found]] = {"sft": train_sft, "reward": train_reward}


def _train(job: Job, meter: Meter, progress: StageProgress) -> Found:
    with meter.loading():
        base = open_base(job.base, job.settings)
    meter.watch(base.decoder)
    return TRAINERS.get(job.method, train_policy)(job, base, progress)


def _checkpoints(job: Job, base: Base) -> Checkpoints:
    """Beside what is to be written. They are of use to the same command alone: same base, data and settings."""
    identity = {
        "method": job.method,
        "base": base.revision,
        "settings": job.settings.model_dump(mode="json"),
        "dataset": fingerprint(job.dataset),
        "reward": fingerprint(job.reward) if job.reward else None,
    }
    return Checkpoints(job.kept / CHECKPOINTS / "kept", identity, job.settings.checkpoint_s, base.world)


def _saved(job: Job, base: Base, adapter: str, trained: Trained, warnings: Warnings) -> dict[str, Any]:
    """Only now the checkpoints may go."""
    sha256 = save_adapter(base, adapter, job.out)
    shutil.rmtree(job.out / CHECKPOINTS, ignore_errors=True)
    found = {"sha256": sha256, "metrics": trained.metrics, "warnings": [*warnings, *drifted(trained.warnings)]}
    return {**found, "stopped": trained.stopped} if trained.stopped else found


def _summary(job: Job, rows: Used, tally: Tally, seconds: dict[str, float]) -> dict[str, Any]:
    tokens = rows.tokens or tally.sampled_tokens
    return {
        "method": job.method,
        "base": str(job.base),
        "dataset": str(job.dataset),
        "out": str(job.out),
        "rows": {"used": rows.rows, "left_out": dict(rows.left_out)},
        "steps": tally.steps,
        "seconds": {"load": round(seconds["load"], 3), "train": round(seconds["work"], 3)},
        "tokens": round(tokens),
        "tokens_per_s": round(tokens / seconds["work"], 1),
    }


def _rows(job: Job, base: Base) -> tuple[Used, dict[str, Any]]:
    """And the fields of a PolicyContext that the method learns from. Prompts have no tokens yet: those are sampled."""
    settings, source = job.settings, job.dataset
    if settings.method == "dpo":
        pairs = _pairs(job, base)
        return used(settings.preference_epochs, pairs), {"pairs": pairs.given}
    if settings.method == "kto":
        thumbs = credited(data.unpaired(rows_of(source, "unpaired", "train")), settings.conversation_discount)
        fitted = fit(base, thumbs, lambda row: [row.completion], settings.max_length)
        return used(settings.preference_epochs, fitted), {"unpaired": fitted.given}
    room = settings.max_length - settings.policy_max_new_tokens
    judged = _pairs(job, base).given if learns_from_pairs(settings) else []
    shown = data.demonstrations(rows_of(source, "demonstrations", "train")) if settings.ppo_ptx else []
    asked = data.prompts(rows_of(source, "prompts", "train"))
    prompts = data.fitting(base.tokenizer, asked, room)
    left_out = +Counter(too_long=len(asked) - len(prompts))
    return Used(len(prompts), 0, left_out), {"prompts": prompts, "demonstrations": shown, "pairs": judged}


def _pairs(job: Job, base: Base) -> Fitted[Preference]:
    rows = data.preferences(rows_of(job.dataset, "preference", "train"))
    return fit(base, rows, lambda row: [row.chosen, row.rejected], job.settings.max_length)


def _judgements(job: Job, base: Base) -> tuple[Fitted[Preference], Fitted[Tie]]:
    ties = data.ties(rows_of(job.dataset, "ties", "train")) if job.dataset.is_dir() else []
    fitted = fit(base, ties, lambda row: [row.completion_a, row.completion_b], job.settings.max_length)
    return _pairs(job, base), fitted


def _make(out: Path) -> None:
    """Whether it can be written is known before anything is trained. Raises SettingsError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out: {out} is no directory and can't be made one ({error.strerror})") from None


def _fit_reward(
    job: Job, base: Base, pairs: Fitted[Preference], ties: Fitted[Tie], *, features: bool, progress: Progress
) -> Reward:
    return reward_method.train(
        base,
        pairs.rows,
        ties.rows,
        name="with_features" if features else "bare",
        settings=job.settings,
        seed=job.settings.seed,
        features=features,
        progress=progress,
        checkpoints=_checkpoints(job, base).part("with_features" if features else "bare"),
    )
