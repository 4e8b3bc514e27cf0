"""A dataset while it is made: new files in a directory, unchanged ones taken over from the parent where they lie."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.artifacts import ArtifactStore, MissingArtifact, Shared
from infra.base_model import file_sha256
from infra.contracts.manifests import FileEntry


@dataclass(frozen=True)
class Draft:
    """`parent` is the artifact path of the dataset before, if it has one."""

    directory: Path
    artifacts: ArtifactStore
    parent: str | None = None
    kept: set[str] = field(default_factory=set)  # files that are the parent's

    def write(self, name: str, table: pa.Table) -> FileEntry:
        """Its bytes depend on nothing but the rows (and on pyarrow: another release may write others)."""
        path = self.at(name)
        pq.write_table(table, path, compression="zstd", version="2.6", store_schema=False, write_page_index=False)
        return FileEntry(path=name, sha256=file_sha256(path), bytes=path.stat().st_size, rows=len(table))

    def at(self, name: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def keep(self, *names: str) -> bool:
        """Takes these files over, if the parent has all of them still: an erasure may have taken one."""
        if self.parent is None or not all(self.artifacts.exists(f"{self.parent}/{name}") for name in names):
            return False
        self.kept.update(names)
        return True

    def read(self, name: str, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
        """Columns of one file, new or taken over, with the types of the schema."""
        wanted = pa.schema([schema.field(column) for column in columns])
        source: Any = self.artifacts.open(f"{self.parent}/{name}") if name in self.kept else self.directory / name
        if isinstance(source, Path):
            return pq.read_table(source, columns=list(columns)).cast(wanted)
        with source as file:
            return pq.read_table(file, columns=list(columns)).cast(wanted)

    @property
    def shared(self) -> Shared:
        return Shared(self.parent or "", frozenset(self.kept))

    def parent_bytes(self, name: str) -> bytes | None:
        if self.parent is None:
            return None
        try:
            return self.artifacts.read(f"{self.parent}/{name}")
        except MissingArtifact:
            return None
