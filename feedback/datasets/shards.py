"""Rows into Parquet files: one file per table, split and cell."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feedback.cells import Cell
from feedback.datasets.draft import Draft
from feedback.datasets.rows import Row, Table, schema
from infra.contracts.manifests import FileEntry

WEIGHTS = "weights"  # the directory of the side files: how much each rater, prompt and segment counts
MARGIN_SUFFIX = "-margin"  # rows with a margin have one column more, so a file of their own


def write_rows(draft: Draft, rows: Iterable[Row], split: str, cell: Cell) -> list[FileEntry]:
    """One file per table that has rows, sorted by path."""
    return write_tables(draft, tables_of(rows), split, cell)


def write_tables(draft: Draft, tables: Mapping[str, pa.Table], split: str, cell: Cell) -> list[FileEntry]:
    """`tables` by kind, their rows in order."""
    files = {shard_path(kind, split, cell): table for kind, table in tables.items()}
    return [draft.write(name, files[name]) for name in sorted(files)]


def tables_of(rows: Iterable[Row]) -> dict[str, pa.Table]:
    """By kind, each in the order of its row ids."""
    kinds = defaultdict[str, list[Row]](list)
    for row in sorted(rows, key=lambda row: row.row_id):
        kinds[kind_of(row)].append(row)
    return {kind: table_of(some) for kind, some in kinds.items()}


def kind_of(row: Row) -> str:
    """Rows of one kind share a file: a table's, with or without margins."""
    return f"{row.table}{MARGIN_SUFFIX if row.has_margin else ''}"


def table_of(rows: Sequence[Row]) -> pa.Table:
    """`rows` are of one kind."""
    columns = schema(rows[0].table, margin=rows[0].has_margin)
    return pa.Table.from_pylist([dict(row.values) for row in rows], schema=columns)


def shard_path(kind: str, split: str, cell: Cell) -> str:
    """Of a `kind_of` rows, in a dataset."""
    table = kind.removesuffix(MARGIN_SUFFIX)
    return f"{table}/{split}/{cell}{kind.removeprefix(table)}.parquet"


def dataset_sha256(files: Iterable[FileEntry]) -> str:
    """Over the sorted shard hashes, each with its path: the same rows in another split are another dataset."""
    lines = sorted(f"{file.path} {file.sha256}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_ids(directory: Path, table: Table) -> set[str]:
    """The row ids of one table, whatever the split."""
    column = "prompt_id" if table is Table.PROMPTS else "pair_id"
    files = sorted((directory / table).rglob("*.parquet"))
    return {value for file in files for value in pq.read_table(file, columns=[column])[column].to_pylist()}
