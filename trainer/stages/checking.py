"""What a cycle's dataset is asked before anything is trained on it: too little, or degenerate, ends the cycle here."""

from infra.contracts.manifests import DataWarning
from infra.settings import TrainerSettings
from trainer import data
from trainer.checks import check_pairs
from trainer.cycle import FOLLOWING
from trainer.data import read_table
from trainer.doubts import about_base, about_demonstrations, about_pairs, about_prompts, about_thumbs
from trainer.errors import StageFailed
from trainer.findings import Finding, Kind, Warnings, settled
from trainer.methods.policy import SAMPLING
from trainer.stages.choosing import chosen_method
from trainer.stages.material import Material
from trainer.stages.start import Start, start_of, unseen_rows
from trainer.warm_start import learns_from_pairs
from trainer.workdir import WorkDir


def check_data(material: Material) -> Warnings:
    """Raises StageFailed with what was found, what was left out, and what to do about it."""
    start = start_of(material)
    settings = material.settings.model_copy(update={"method": chosen_method(material, start).method})
    judged = _thumbs(material, start) if settings.method == "kto" else _pairs(material, settings, start)
    asked = _asked(material) if settings.method in SAMPLING else []
    findings = [*judged, *_shown(material), *asked, *about_base(material.base, settings)]
    return settled(findings, tolerated=tuple(Kind) if settings.data_checks == "warn" else ())


def kept_warnings(work: WorkDir) -> list[DataWarning]:
    """Of every stage that is finished, in their order: what manifest and report tell."""
    results = [work.result(state) or {} for state in FOLLOWING]
    return [DataWarning.model_validate(warning) for result in results for warning in result.get("warnings", [])]


def _thumbs(material: Material, start: Start) -> list[Finding]:
    thumbs = data.unpaired(unseen_rows(material, start, "unpaired"))
    _enough(material, start, len(thumbs), "lone thumbs", "min_thumbs")
    return about_thumbs(material.base, material.settings.max_length, thumbs)


def _pairs(material: Material, settings: TrainerSettings, start: Start) -> list[Finding]:
    """All of them make a reward model; where the policy learns from pairs itself, the new ones are what counts."""
    rows = read_table(material.dataset, "preference", "train")
    ties = data.ties(read_table(material.dataset, "ties", "train"))
    if not rows and ties:
        return check_pairs([], ties)
    _enough(material, Start(), len(rows), "preference pairs", "min_pairs")
    if learns_from_pairs(settings):
        rows = unseen_rows(material, start, "preference")
        _enough(material, start, len(rows), "preference pairs", "min_pairs")
    return about_pairs(material.base, material.settings.max_length, data.preferences(rows), ties)


def _shown(material: Material) -> list[Finding]:
    """Where there are enough demonstrations to be imitated."""
    rows = data.demonstrations(read_table(material.dataset, "demonstrations", "train"))
    if len(rows) < material.settings.sft_min_rows:
        return []
    return about_demonstrations(material.base, material.settings.max_length, rows)


def _asked(material: Material) -> list[Finding]:
    return about_prompts(data.prompts(read_table(material.dataset, "prompts", "train")))


def _enough(material: Material, start: Start, rows: int, what: str, setting: str) -> None:
    """Raises StageFailed with what was left out and why."""
    manifest, needed = material.dataset_manifest, getattr(material.settings, setting)
    if rows >= needed:
        return
    filtered = ", ".join(f"{reason} {count}" for reason, count in sorted(manifest.filtered.items())) or "nothing"
    raise StageFailed(
        f"dataset {manifest.dataset_id} has {rows} {what} to train on{start.told()}, trainer.{setting} asks for"
        f" {needed} (left out: {filtered})"
    )
