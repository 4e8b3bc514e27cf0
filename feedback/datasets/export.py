"""A dataset out of the artifact store, for other tools: the Parquet files as they are, or JSON lines."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from infra.contracts.manifests import DatasetManifest


def export_parquet(directory: Path, target: Path) -> list[Path]:
    """Copies everything, the manifest included, into `target`; raises FileExistsError where that is not empty."""
    _claim(target)
    shutil.copytree(directory, target, dirs_exist_ok=True)
    return sorted(path for path in target.rglob("*") if path.is_file())


def export_jsonl(directory: Path, manifest: DatasetManifest, target: Path) -> list[Path]:
    """One file per table and split, rows in the order of the shards, absent message fields left out."""
    _claim(target)
    written: list[Path] = []
    for table, split in sorted({tuple(file.path.split("/")[:2]) for file in manifest.files}):
        path = target / f"{table}-{split}.jsonl"
        shards = sorted((directory / table / split).glob("*.parquet"))
        with path.open("w") as file:
            file.writelines(_lines(shards))
        written.append(path)
    return written


def _claim(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise FileExistsError(f"{target} is not empty")


def _lines(shards: Iterable[Path]) -> Iterable[str]:
    for shard in shards:
        for row in pq.read_table(shard).to_pylist():
            yield json.dumps(_without_nulls(row), default=str, ensure_ascii=False) + "\n"


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value
