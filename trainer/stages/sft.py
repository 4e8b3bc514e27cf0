"""Imitates demonstrations where there are enough of them; what comes out is the anchor of this cycle."""

from pathlib import Path

from infra.contracts.routing import BASE_VERSION
from trainer import data
from trainer.cycle import Result
from trainer.data import read_table
from trainer.errors import StageFailed
from trainer.methods import sft as method
from trainer.model import attach_fresh, remove_adapter, save_adapter
from trainer.progress import StageProgress
from trainer.regression import read_cases
from trainer.stages.material import Material


def sft(material: Material, part: Path, progress: StageProgress) -> Result:
    """Also the first to see dataset and settings: too few pairs, or checks that can't be read, end the cycle here."""
    check_pairs(material)
    read_cases(material.settings.regression_file)
    settings = material.settings
    rows = data.demonstrations(read_table(material.dataset, "demonstrations", "train"))
    if len(rows) < settings.sft_min_rows:
        return {"anchor": BASE_VERSION, "skipped": f"{len(rows)} demonstrations, {settings.sft_min_rows} needed"}
    base = material.base
    attach_fresh(base, "sft", settings, settings.seed)
    found = method.train(base, rows, adapter="sft", settings=settings, seed=settings.seed, progress=progress)
    sha256 = save_adapter(base, "sft", part / "adapter")
    remove_adapter(base, "sft")
    anchor = f"{material.row.alias}-{material.row.cycle_id}-sft-{sha256[:8]}"
    return {"anchor": anchor, "sha256": sha256, "rows": len(rows), "metrics": found.metrics}


def check_pairs(material: Material) -> None:
    """Raises StageFailed with what was found, what was left out and why."""
    manifest, needed = material.dataset_manifest, material.settings.min_pairs
    pairs = manifest.counts.get("preference", {}).get("train", 0)
    if pairs >= needed:
        return
    filtered = ", ".join(f"{reason} {count}" for reason, count in sorted(manifest.filtered.items())) or "nothing"
    raise StageFailed(
        f"dataset {manifest.dataset_id} has {pairs} preference pairs to train on, trainer.min_pairs asks for {needed}"
        f" (left out: {filtered})"
    )
