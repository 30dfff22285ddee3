"""Safetensors files are read as their format says, and what is none is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from embedding_runtime.errors import CorruptModelError, UnsupportedModelError
from embedding_runtime.model.tensors import Tensors
from tests.unit.runtime import made

NUMBERS = np.array([[1.5, -2.0, 0.25], [0.0, 3.0, -0.5]], dtype=np.float32)


@pytest.mark.parametrize("kind", ["F64", "F32", "F16", "BF16"])
def test_every_kind_of_number_becomes_32_bits(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.safetensors"
    made.write_safetensors(path, {"first": NUMBERS, "none": NUMBERS[:0], "third": NUMBERS[1] * 2}, kind=kind)
    tensors = Tensors(path)
    assert list(tensors) == ["first", "none", "third"]
    assert tensors["first"].dtype == np.float32
    np.testing.assert_array_equal(tensors["first"], NUMBERS)
    np.testing.assert_array_equal(tensors["third"], NUMBERS[1] * 2)
    assert tensors.shape("none") == tensors["none"].shape == (0, 3)
    assert tensors.get("absent") is None


def test_quantised_weights_are_refused_when_they_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    made.write_safetensors(path, {"weight": NUMBERS}, kind="I8")
    with pytest.raises(UnsupportedModelError, match=r"weight as I8.*not quantised"):
        Tensors(path)["weight"]


def _said(**said: object) -> bytes:
    head = json.dumps({"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **said}}).encode()
    return len(head).to_bytes(8, "little") + head + bytes(8)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        bytes(8),
        (10**9).to_bytes(8, "little") + b"{}",
        _said()[:-1],
        _said(shape=[3]),
        _said(shape=[-2]),
        _said(data_offsets=[8, 0]),
        _said(data_offsets=[-8, 0]),
        _said(data_offsets=[0]),
        (2).to_bytes(8, "little") + b"[]",
        (7).to_bytes(8, "little") + b'{"t":1}',
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CorruptModelError, match=r"model\.safetensors cannot be read as a safetensors file"):
        Tensors(path)
