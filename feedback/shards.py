"""Rows into Parquet files whose bytes depend on nothing but the rows.

A shard holds the rows of one table, split, event day and bucket, so that a late event or an erased person dirties few
of them. Bytes are the same for the same pyarrow; another release may write others.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feedback.rows import Row, Table, schema
from feedback.split import Divided
from infra.base_model import file_sha256
from infra.contracts.manifests import FileEntry

BUCKETS = 4


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    table: Table
    split: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.table}/{self.split}/{self.name}.parquet"


def shard_of(row: Row, split: str) -> Shard:
    """All rows of one person and day are in one bucket; rows with a margin have one column more, so another file."""
    day = row.occurred_at.astimezone(UTC).date().isoformat()
    bucket = int.from_bytes(hashlib.sha256(row.unit.encode()).digest()[:4], "big") % BUCKETS
    return Shard(row.table, split, f"{day}-{bucket}{'-margin' if row.has_margin else ''}")


def write_shards(divided: Divided, directory: Path) -> list[FileEntry]:
    """One file per shard that has rows, sorted by path."""
    shards: Mapping[Shard, list[Row]] = defaultdict(list)
    for (_, split), rows in divided.items():
        for row in rows:
            shards[shard_of(row, split)].append(row)
    return [_write(shard, rows, directory) for shard, rows in sorted(shards.items(), key=lambda item: item[0])]


def dataset_sha256(files: Iterable[FileEntry]) -> str:
    """Over the sorted shard hashes, each with its path: the same rows in another split are another dataset."""
    lines = sorted(f"{file.path} {file.sha256}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_ids(directory: Path, table: Table) -> set[str]:
    """The row ids of one table, whatever the split."""
    column = "prompt_id" if table is Table.PROMPTS else "pair_id"
    files = sorted((directory / table).rglob("*.parquet"))
    return {value for file in files for value in pq.read_table(file, columns=[column])[column].to_pylist()}


def _write(shard: Shard, rows: Sequence[Row], directory: Path) -> FileEntry:
    path = directory / shard.path
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(rows, key=lambda row: row.row_id)
    columns = schema(shard.table, margin=ordered[0].has_margin)
    content = pa.Table.from_pylist([dict(row.values) for row in ordered], schema=columns)
    pq.write_table(content, path, compression="zstd", version="2.6", store_schema=False, write_page_index=False)
    return FileEntry(path=shard.path, sha256=file_sha256(path), bytes=path.stat().st_size, rows=len(ordered))
