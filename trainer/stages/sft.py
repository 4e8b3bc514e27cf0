"""Imitates demonstrations where there are enough of them; what comes out is the anchor of this cycle."""

from pathlib import Path

from infra.contracts.routing import BASE_VERSION
from trainer import data
from trainer.cycle import Result
from trainer.data import read_table
from trainer.findings import stopped_early
from trainer.methods import sft as method
from trainer.model import attach_fresh, remove_adapter, save_adapter
from trainer.progress import StageProgress
from trainer.regression import read_suites
from trainer.stages.checking import check_data
from trainer.stages.material import Material
from trainer.stages.reading import read_pieces


def sft(material: Material, part: Path, progress: StageProgress) -> Result:
    """Also the first to see dataset and settings: bad data, or checks that can't be read, end the cycle here."""
    warnings = check_data(material)
    read_suites(material.settings)
    read_pieces(material)
    settings = material.settings
    rows = data.demonstrations(read_table(material.dataset, "demonstrations", "train"))
    if len(rows) < settings.sft_min_rows:
        skipped = f"{len(rows)} demonstrations, {settings.sft_min_rows} needed"
        return {"anchor": BASE_VERSION, "skipped": skipped, "warnings": warnings}
    base = material.base
    attach_fresh(base, "sft", settings, settings.seed)
    found = method.train(
        base,
        rows,
        adapter="sft",
        settings=settings,
        seed=settings.seed,
        progress=progress,
        checkpoints=material.checkpoints("sft"),
    )
    sha256 = save_adapter(base, "sft", part / "adapter")
    remove_adapter(base, "sft")
    anchor = f"{material.row.alias}-{material.row.cycle_id}-sft-{sha256[:8]}"
    return {
        "anchor": anchor,
        "sha256": sha256,
        "rows": len(rows),
        "metrics": found.metrics,
        "warnings": [*warnings, *stopped_early("sft", found.stopped)],
    }
