"""Safetensors files without torch."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from serving.tensors import Tensor, Unreadable, read_shapes, read_tensors


def test_names_shapes_and_values_are_read(tmp_path: Path) -> None:
    save_file({"a": np.ones((2, 3), dtype=np.float32)}, tmp_path / "x.safetensors")
    [tensor] = read_tensors(tmp_path / "x.safetensors")
    assert (tensor.name, tensor.shape, tensor.dtype, len(tensor.data)) == ("a", (2, 3), "F32", 24)


def test_shapes_are_read_over_all_shards_from_their_headers(tmp_path: Path) -> None:
    save_file({"a": np.ones((2, 3))}, tmp_path / "model-1.safetensors")
    save_file({"b": np.ones(4)}, tmp_path / "model-2.safetensors")
    assert read_shapes(tmp_path) == {"a": (2, 3), "b": (4,)}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_single_value_that_is_not_finite_is_found_in_every_precision(dtype: type, value: float) -> None:
    values = np.zeros(9, dtype=dtype)
    name = {2: "F16", 4: "F32", 8: "F64"}[values.itemsize]
    assert Tensor("a", (9,), name, values.tobytes()).is_finite()
    values[5] = value
    assert not Tensor("a", (9,), name, values.tobytes()).is_finite()


def test_bfloat16_is_the_upper_half_of_a_float32() -> None:
    def halved(value: float) -> bytes:
        return np.float32(value).tobytes()[2:]

    assert Tensor("a", (2,), "BF16", halved(1.5) + halved(-3.0)).is_finite()
    assert not Tensor("a", (2,), "BF16", halved(1.5) + halved(np.inf)).is_finite()


def test_integers_are_no_weights() -> None:
    with pytest.raises(Unreadable, match="a is of dtype I64"):
        Tensor("a", (1,), "I64", b"\0" * 8).is_finite()


@pytest.mark.parametrize("content", [b"", b"12345678", b"\x80\x02}q\x00."], ids=["empty", "cut short", "a pickle"])
def test_anything_else_is_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(Unreadable):
        read_tensors(tmp_path / "x.safetensors")
    with pytest.raises(Unreadable, match=r"x\.safetensors"):
        read_shapes(tmp_path)
