"""Which events the rows of some datasets are made of: read from every shard once, then kept as one sorted list.

The list holds ids and nothing else. It stays when somebody is erased: that an event was there is what a trace tells.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from feedback.datasets.shards import WEIGHTS
from feedback.rights.traces import read_columns
from infra.artifacts import ArtifactStore, MissingArtifact
from infra.contracts.manifests import DatasetManifest
from infra.database.engine import Database
from infra.registry import adapters
from infra.registry.lineage import Shelf

COLUMN, COMPLETE = "source_event_ids", b"complete"
PIECE = 50_000  # ids in one part of the list: a page reads one or two
TOGETHER = 2_000_000  # ids that wait before those that are there twice go


@dataclass(frozen=True)
class SourceList:
    """`complete`: no shard was missing when it was made."""

    artifacts: ArtifactStore
    path: str
    count: int
    complete: bool

    def page(self, offset: int, limit: int) -> list[str]:
        """Ids in their order, which is about that of time."""
        first = offset // PIECE
        with self.artifacts.open(self.path) as file:
            stored = pq.ParquetFile(file)
            last = min((offset + limit - 1) // PIECE, stored.num_row_groups - 1)
            if last < first:
                return []
            ids = stored.read_row_groups(range(first, last + 1))[COLUMN]
        return [str(one) for one in ids.slice(offset - first * PIECE, limit).to_pylist()]


@dataclass(frozen=True)
class Sources:
    """One tenant's."""

    database: Database
    artifacts: ArtifactStore
    tenant: str

    def of(self, shelves: Sequence[Shelf]) -> SourceList:
        """Of all of them together; it is made where it is not there yet."""
        hashes = sorted({shelf.sha256 for shelf in shelves})
        path = f"sources/{self.tenant}/{hashlib.sha256(' '.join(hashes).encode()).hexdigest()[:32]}.parquet"
        if not self.artifacts.exists(path):
            self.artifacts.write(path, self._list(shelves))
        with self.artifacts.open(path) as file:
            known = pq.ParquetFile(file)
            complete = (known.schema_arrow.metadata or {}).get(COMPLETE) == b"1"
            return SourceList(self.artifacts, path, known.metadata.num_rows, complete)

    def _list(self, shelves: Sequence[Shelf]) -> bytes:
        parts, waiting, missing = list[pa.Array](), 0, 0
        for ids in self._shards(shelves):
            if ids is None:
                missing += 1
                continue
            parts.append(ids)
            waiting += len(ids)
            if waiting > TOGETHER:
                parts, waiting = [pa.chunked_array(parts).unique()], 0
        ordered = pa.chunked_array(parts, pa.string()).unique().sort()
        schema = pa.schema([(COLUMN, pa.string())], {COMPLETE: b"0" if missing else b"1"})
        buffer = BytesIO()
        pq.write_table(pa.table([ordered], schema), buffer, row_group_size=PIECE, compression="zstd")
        return buffer.getvalue()

    def _shards(self, shelves: Iterable[Shelf]) -> Iterator[pa.Array | None]:
        """What datasets share is read once; None for a file that is gone."""
        seen = set[str]()
        for shelf in shelves:
            for file in self._manifest(shelf).files:
                if file.sha256 in seen or file.path.startswith(f"{WEIGHTS}/"):
                    continue
                seen.add(file.sha256)
                try:
                    table = read_columns(self.artifacts, f"{shelf.path}/{file.path}", [COLUMN])
                except MissingArtifact:
                    yield None
                else:
                    yield table[COLUMN].combine_chunks().flatten().unique()

    def _manifest(self, shelf: Shelf) -> DatasetManifest:
        with self.database.reading() as session:
            row = adapters.get_dataset(session, self.tenant, shelf.dataset_id)
        return DatasetManifest.model_validate(row.manifest)
