"""What a cycle's policy starts from, and which judgements it has not learnt from yet."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow.parquet

from infra.contracts.manifests import DatasetManifest
from infra.contracts.routing import BASE_VERSION, is_base
from infra.registry import adapters
from trainer.data import read_table
from trainer.errors import StageFailed
from trainer.stages.material import Material

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Start:
    """`parent` is a published version, None the anchor."""

    parent: str | None = None

    def told(self) -> str:
        """For a message about how many rows there are."""
        return "" if self.parent is None else f" that {self.parent} hasn't learnt from (trainer.init=anchor takes all)"


@dataclass(frozen=True, slots=True)
class Seen:
    """Judgements that a version was trained on: by name, and all that were cast until `until`, the cut of datasets
    whose files were erased since."""

    pair_ids: frozenset[str]
    until: datetime | None = None

    def unseen(self, rows: Rows) -> Rows:
        return [row for row in rows if not self._holds(row)]

    def _holds(self, row: dict[str, Any]) -> bool:
        cast_at = row.get("occurred_at")
        return row.get("pair_id") in self.pair_ids or bool(self.until and cast_at and cast_at <= self.until)


def start_of(material: Material) -> Start:
    champion = material.champion() if material.settings.init == "champion" else BASE_VERSION
    return Start(None if is_base(champion) else champion)


def unseen_rows(material: Material, start: Start, table: str) -> Rows:
    """What DPO and KTO learn from: starting from the champion, they take what is new to it, and it is the reference.

    Raises StageFailed where nobody knows what the champion was trained on.
    """
    rows = read_table(material.dataset, table, "train")
    return rows if start.parent is None else _seen(material, start.parent, table).unseen(rows)


def _seen(material: Material, version: str, table: str) -> Seen:
    with material.ports.database.reading() as session:
        manifest = adapters.manifest_of(adapters.get(session, version))
        known = adapters.datasets_named(session, material.row.tenant, manifest.dataset_ids)
        paths = [adapters.get_dataset(session, one.tenant, one.dataset_id).path for one in known]
    if not known:
        raise StageFailed(f"what {version} was trained on isn't known any more: set trainer.init=anchor")
    whole = [(path, one) for path, one in zip(paths, known, strict=True) if not one.erased]
    erased = [one.as_of for one in known if one.erased]
    return Seen(frozenset(_pair_ids(material, whole, table)), max(erased, default=None))


def _pair_ids(material: Material, datasets: Iterable[tuple[str, DatasetManifest]], table: str) -> set[str]:
    """A file that several datasets share is read once."""
    files = {
        file.sha256: f"{path}/{file.path}"
        for path, manifest in datasets
        for file in manifest.files
        if file.path.startswith(f"{table}/train/")
    }
    found: set[str] = set()
    for name in files.values():
        with material.ports.artifacts.open(name) as opened:
            found.update(pyarrow.parquet.read_table(opened, columns=["pair_id"])["pair_id"].to_pylist())
    return found
