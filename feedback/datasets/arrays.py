"""Columns of facts as numpy arrays, and 64-bit hashes that don't depend on the order of rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # splitmix64


@dataclass(frozen=True)
class Lists:
    """A column of lists: all values in a row, and the row that each one belongs to."""

    values_V: NDArray[Any]
    row_V: Ints

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "Lists":
        array = column.combine_chunks()
        lengths = np.diff(array.offsets.to_numpy())
        return cls(array.flatten().to_numpy(zero_copy_only=False), np.repeat(np.arange(len(array)), lengths))

    def any_in(self, wanted: NDArray[Any], rows: int) -> Bools:
        """For each row whether any of its values is wanted."""
        found = np.zeros(rows, dtype=np.bool_)
        found[self.row_V[np.isin(self.values_V, wanted)]] = True
        return found


def column(table: pa.Table, name: str) -> NDArray[Any]:
    return np.asarray(table[name].to_numpy())


def moments(table: pa.Table, name: str) -> Ints:
    """Microseconds since 1970."""
    return np.asarray(table[name].cast(pa.int64()).to_numpy())


def wide(table: pa.Table, name: str) -> tuple[Hashes, Hashes]:
    """The two halves of a 16-byte column; compared one after the other they order as the bytes do."""
    array = table[name].combine_chunks()
    halves = np.frombuffer(array.buffers()[1], dtype=">u8", count=2 * len(array), offset=16 * array.offset)
    return halves[0::2].astype(np.uint64), halves[1::2].astype(np.uint64)


def mix(values: Hashes) -> Hashes:
    """Sums of mixed values tell sets apart."""
    mixed = values + MIX[0]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * MIX[1]
    mixed = (mixed ^ (mixed >> np.uint64(27))) * MIX[2]
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def joined(*parts: Hashes) -> Hashes:
    """One hash of several columns."""
    found = mix(parts[0])
    for part in parts[1:]:
        found = mix(found ^ mix(part + MIX[0]))
    return found


def group_sums(group_N: Hashes, values_N: Hashes) -> Hashes:
    """For each row the sum, modulo 2^64, over its group."""
    _, place_N = np.unique(group_N, return_inverse=True)
    sums = np.zeros(int(place_N.max(initial=-1)) + 1, dtype=np.uint64)
    np.add.at(sums, place_N, values_N)
    return np.asarray(sums[place_N])


def firsts(groups_N: Hashes, keys_KN: Sequence[NDArray[Any]]) -> Bools:
    """Whether a row is the first of its group, by these keys one after the other."""
    order = np.lexsort((*reversed(keys_KN), groups_N))
    ordered = groups_N[order]
    first = np.zeros(len(groups_N), dtype=np.bool_)
    first[order] = np.r_[True, ordered[1:] != ordered[:-1]] if len(ordered) else []
    return first
