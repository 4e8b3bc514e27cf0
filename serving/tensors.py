"""Names, shapes and values of safetensors files without torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize, safe_open

DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


class Unreadable(ValueError):
    """The file is cut short, or no safetensors at all."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """`data` are the raw little-endian values."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: bytes

    def is_finite(self) -> bool:
        """Raises Unreadable for a dtype that no adapter has."""
        return bool(np.isfinite(self._values()).all())

    def _values(self) -> NDArray[np.floating]:
        if self.dtype == "BF16":  # numpy has none: it is the upper half of a float32
            return (np.frombuffer(self.data, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
        if self.dtype not in DTYPES:
            raise Unreadable(f"{self.name} is of dtype {self.dtype}")
        return np.frombuffer(self.data, dtype=DTYPES[self.dtype])


def read_tensors(path: Path) -> list[Tensor]:
    """The whole file; raises Unreadable."""
    try:
        found = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]  # safetensors has no annotation here
    except SafetensorError as error:
        raise Unreadable(str(error)) from None
    return [Tensor(name, tuple(t["shape"]), t["dtype"], bytes(t["data"])) for name, t in found]


def read_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape over all of a model's shards, from the headers alone; raises Unreadable."""
    return dict(shape for path in sorted(directory.glob("*.safetensors")) for shape in _shapes(path))


def _shapes(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                yield name, tuple(file.get_slice(name).get_shape())
    except SafetensorError as error:
        raise Unreadable(f"{path.name}: {error}") from None
