"""What changed from one dataset to another: rows by table, counts by reason, settings."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from feedback.datasets.rows import Table
from feedback.datasets.shards import read_ids
from infra.contracts.manifests import DatasetManifest


@dataclass(frozen=True, slots=True)
class RowChange:
    """Rows are the same where their ids are: the same judgement of the same answers."""

    table: str
    before: int
    after: int
    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class Change:
    name: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class DatasetDiff:
    same: bool
    rows: list[RowChange]
    shards: dict[str, int]  # same, changed, added, removed
    filtered: list[Change]
    settings: list[Change]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Stored:
    """A dataset's manifest and the directory that its files lie in."""

    manifest: DatasetManifest
    directory: Path


def diff(old: Stored, new: Stored) -> DatasetDiff:
    return DatasetDiff(
        same=old.manifest.sha256 == new.manifest.sha256,
        rows=[_rows(table, old, new) for table in Table],
        shards=_shards(old.manifest, new.manifest),
        filtered=_changes(old.manifest.filtered, new.manifest.filtered),
        settings=_changes(old.manifest.settings, new.manifest.settings),
    )


def _rows(table: Table, old: Stored, new: Stored) -> RowChange:
    before, after = read_ids(old.directory, table), read_ids(new.directory, table)
    return RowChange(table.value, len(before), len(after), len(after - before), len(before - after))


def _shards(old: DatasetManifest, new: DatasetManifest) -> dict[str, int]:
    before, after = ({file.path: file.sha256 for file in manifest.files} for manifest in (old, new))
    both = before.keys() & after.keys()
    same = sum(before[path] == after[path] for path in both)
    return {
        "same": same, "changed": len(both) - same, "added": len(after.keys() - both),
        "removed": len(before.keys() - both),
    }  # fmt: skip


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    names = sorted(old.keys() | new.keys())
    return [Change(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]
