"""Tensors out of safetensors files, read without PyTorch.

The format (github.com/huggingface/safetensors, "Format"): 8 bytes with the length of the head, unsigned and
little-endian; the head, a JSON object that maps names to `dtype`, `shape` and `data_offsets`, [begin, end) in
what follows; then the numbers, row by row and little-endian. What `__metadata__` says is left aside.
"""

import json
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedding_runtime.errors import CorruptModelError, UnsupportedModelError

Array = NDArray[np.float32]

# What the format calls the types of weights; bf16, which numpy has not, is the upper half of 32 bits.
_KINDS: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
# The longest head that the format allows, in bytes.
_LONGEST_HEAD = 100_000_000


@dataclass(frozen=True)
class _Place:
    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int


def shards(path: Path) -> tuple[str, ...]:
    """The files beside the index at `path` that hold the tensors it lists.

    Raises CorruptModelError.
    """
    try:
        named = sorted(
            {str(name) for name in json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()}
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptModelError(f"{path.name} cannot be read as an index of safetensors: {error}") from error
    if not named or any("/" in name or not name.endswith(".safetensors") for name in named):
        raise CorruptModelError(f"{path.name} names files that are none of safetensors: {', '.join(named)}")
    return tuple(named)


class Tensors(Mapping[str, Array]):
    """The tensors of one file by name, each read when it is asked for, as float32 whatever it was."""

    def __init__(self, path: Path) -> None:
        """Raises CorruptModelError where the file is none of this format."""
        try:
            with path.open("rb") as file:
                self._view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._places = _places(self._view)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptModelError(f"{path.name} cannot be read as a safetensors file: {error}") from error
        self._name = path.name

    def __getitem__(self, name: str) -> Array:
        """The tensor; raises KeyError, and UnsupportedModelError where it does not hold weights."""
        place = self._places[name]
        kind = _KINDS.get(place.kind)
        if kind is None:
            raise UnsupportedModelError(
                f"{self._name} has its tensor {name} as {place.kind}, not as F32, F16 or BF16: choose a "
                "repository whose weights are not quantised"
            )
        found = np.frombuffer(self._view, kind, prod(place.shape), place.begin).reshape(place.shape)
        if place.kind == "BF16":
            whole: Array = (found.astype(np.uint32) << 16).view(np.float32)
            return whole
        numbers: Array = found.astype(np.float32)
        return numbers

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._places)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape; raises KeyError."""
        return self._places[name].shape

    @property
    def bytes(self) -> int:
        """What all of them take as float32."""
        return sum(prod(place.shape) for place in self._places.values()) * np.dtype(np.float32).itemsize


def checkpoint(path: Path) -> list[Tensors]:
    """The file at `path`, or all those that the index there names.

    Raises CorruptModelError.
    """
    names = shards(path) if path.suffix == ".json" else (path.name,)
    return [Tensors(path.with_name(name)) for name in names]


def _places(view: mmap.mmap) -> dict[str, _Place]:
    """Where each tensor lies in the file. Raises ValueError and its like for what is not so."""
    size = int.from_bytes(view[:8], "little")
    if size > min(_LONGEST_HEAD, len(view) - 8):
        raise ValueError("its head is longer than it is")
    start = 8 + size
    found = {}
    for name, said in json.loads(view[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = (start + int(each) for each in said["data_offsets"])
        place = _Place(str(said["dtype"]), tuple(int(each) for each in said["shape"]), begin, end)
        kind = _KINDS.get(place.kind)
        if not start <= begin <= end <= len(view) or min(place.shape, default=0) < 0:
            raise ValueError(f"its tensor {name} lies outside it")
        if kind is not None and end - begin != prod(place.shape) * kind.itemsize:
            raise ValueError(f"its tensor {name} has not the size of its shape")
        found[name] = place
    return found
