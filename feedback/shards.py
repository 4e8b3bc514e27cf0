"""Rows into Parquet files: one file per table, split and cell."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feedback.cells import Cell
from feedback.draft import Draft
from feedback.rows import Row, Table, schema
from infra.contracts.manifests import FileEntry

MARGIN_SUFFIX = "-margin"  # rows with a margin have one column more, so a file of their own


def write_rows(draft: Draft, rows: Iterable[Row], split: str, cell: Cell) -> list[FileEntry]:
    """One file per table that has rows, sorted by path."""
    files: Mapping[str, list[Row]] = defaultdict(list)
    for row in rows:
        files[f"{row.table}/{split}/{cell}{MARGIN_SUFFIX if row.has_margin else ''}.parquet"].append(row)
    return [draft.write(name, _table(files[name])) for name in sorted(files)]


def dataset_sha256(files: Iterable[FileEntry]) -> str:
    """Over the sorted shard hashes, each with its path: the same rows in another split are another dataset."""
    lines = sorted(f"{file.path} {file.sha256}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_ids(directory: Path, table: Table) -> set[str]:
    """The row ids of one table, whatever the split."""
    column = "prompt_id" if table is Table.PROMPTS else "pair_id"
    files = sorted((directory / table).rglob("*.parquet"))
    return {value for file in files for value in pq.read_table(file, columns=[column])[column].to_pylist()}


def _table(rows: Sequence[Row]) -> pa.Table:
    ordered = sorted(rows, key=lambda row: row.row_id)
    columns = schema(ordered[0].table, margin=ordered[0].has_margin)
    return pa.Table.from_pylist([dict(row.values) for row in ordered], schema=columns)
