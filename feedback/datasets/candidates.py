"""Rows as they will be if they are chosen, kept aside cell by cell while a dataset is made.

Whether a judgement becomes rows is known only when all facts are; opening its events a second time would cost as much
again. What lies here holds what people wrote: it is part of the scratch directory, and goes with it.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from feedback.cells import Cell
from feedback.datasets.pairs import own_rows
from feedback.datasets.rows import Row
from feedback.datasets.shards import kind_of, table_of
from feedback.judgements.judgement import Judgement

KEY = pa.field("judgement", pa.binary())  # what a row is made of
PACKED = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True)
class Candidates:
    directory: Path

    def put(self, cell: Cell, piece: int, judgements: Iterable[Judgement]) -> None:
        """The rows that each judgement makes by itself: thumbs are paired later."""
        rows, keys = defaultdict[str, list[Row]](list), defaultdict[str, list[bytes]](list)
        for judgement in judgements:
            for row in own_rows(judgement):
                rows[kind_of(row)].append(row)
                keys[kind_of(row)].append(judgement.key)
        for kind, some in rows.items():
            table = table_of(some).append_column(KEY, pa.array(keys[kind], KEY.type))
            path = self._at(cell) / f"{piece:06}.{kind}.arrow"
            path.parent.mkdir(parents=True, exist_ok=True)
            with pa.ipc.new_file(path, table.schema, options=PACKED) as file:
                file.write_table(table)

    def take(self, cell: Cell, keys: pa.Array) -> dict[str, pa.Table]:
        """Those of these judgements, by the kind of file that they go into."""
        found = defaultdict[str, list[pa.Table]](list)
        for path in sorted(self._at(cell).glob("*.arrow")):
            with pa.ipc.open_file(path) as file:
                table = file.read_all()
            chosen = table.filter(pc.is_in(table[KEY.name], value_set=keys))
            if len(chosen):
                found[path.name.split(".")[1]].append(chosen.drop_columns([KEY.name]))
        return {kind: pa.concat_tables(tables) for kind, tables in found.items()}

    def drop(self, cell: Cell) -> None:
        shutil.rmtree(self._at(cell), ignore_errors=True)

    def _at(self, cell: Cell) -> Path:
        return self.directory / str(cell)
