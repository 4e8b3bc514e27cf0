"""The planted regressions as versions: the adapters that the gates are tried on, taught the same way."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from infra.artifacts import dump_json
from infra.base_model import file_sha256
from infra.contracts.manifests import AdapterManifest
from infra.settings import TrainerSettings
from serving.adapters import WEIGHTS
from tests.bench.planted_regressions import BROKEN
from tests.goldbed.gated import SETTINGS, ask
from tests.goldbed.planted import REGRESSIONS, Teach, careful, improving, unchanged
from tests.support.adapters import Spoil
from tests.support.versions import save_version
from trainer.methods import sft
from trainer.model import Base, attach_fresh, load_base, remove_adapter

BETTER, EQUAL = "better: taught", "no better: its own answers"
TAUGHT: dict[str, Teach] = {**REGRESSIONS, EQUAL: careful(unchanged), BETTER: careful(improving)}
CANDIDATES = (*TAUGHT, *BROKEN)


@dataclass(frozen=True, slots=True)
class Planted:
    """A candidate in its working directory, not published yet."""

    candidate: str
    directory: Path
    manifest: AdapterManifest

    @property
    def version(self) -> str:
        return self.manifest.version


def plant(model: Path, directory: Path, candidates: Sequence[str]) -> Iterator[Planted]:
    """Each a few seconds of training; a broken one is an untaught adapter whose files were spoilt."""
    base = load_base(model)
    asked = ask(base)
    for number, name in enumerate(candidates):
        place = directory / str(number)
        if name in TAUGHT:
            rows = TAUGHT[name](asked, random.Random(name))
            yield Planted(name, place, _taught(base, rows, place, number))
        else:
            made = Planted(name, place, _taught(base, [], place, number))
            yield _spoilt(made, *BROKEN[name])


def _taught(base: Base, rows: Sequence[sft.Demonstration], place: Path, seed: int) -> AdapterManifest:
    settings = TrainerSettings(**SETTINGS)
    attach_fresh(base, "planted", settings, 0)
    try:
        if rows:
            sft.train(base, rows, adapter="planted", settings=settings, seed=0)
        return save_version(base, "planted", place, seed=seed, method="sft")
    finally:
        remove_adapter(base, "planted")


def _spoilt(made: Planted, spoil: Spoil, resign: bool) -> Planted:
    """With `resign` its manifest is of the result, else of what was before."""
    spoil(made.directory)
    if not resign:
        return made
    manifest = made.manifest.model_copy(update={"sha256": file_sha256(made.directory / WEIGHTS)})
    (made.directory / "manifest.json").write_bytes(dump_json(manifest.model_dump(mode="json")))
    return replace(made, manifest=manifest)
