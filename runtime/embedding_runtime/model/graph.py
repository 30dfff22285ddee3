"""Facts about an ONNX file, read from its bytes without loading it: precision, and which files hold its
tensors.

A reader for the few protobuf fields that are needed (onnx.proto3: ModelProto.graph = 7,
GraphProto.node = 1, .initializer = 5, NodeProto.op_type = 4, TensorProto.dims = 1, .data_type = 2,
.external_data = 13, StringStringEntryProto.key = 1, .value = 2), so that neither the onnx package nor a
session is needed.
"""

import math
import mmap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from embedding_runtime.errors import CorruptModelError
from embedding_runtime.model.tensors import shards

# TensorProto.DataType -> (class of precision, bytes of one element); others (shapes, constants) say nothing.
_TYPES = {1: ("fp32", 4), 10: ("fp16", 2), 16: ("bf16", 2), 2: ("int8", 1), 3: ("int8", 1)}

# What ONNX Runtime's dynamic quantisation makes of linear layers.
_SCALES_BY_BATCH = frozenset({b"DynamicQuantizeLinear", b"DynamicQuantizeMatMul"})

_Field = tuple[int, int | memoryview]


@dataclass(frozen=True)
class GraphFacts:
    """`precision`: fp32, fp16, bf16 or int8, whichever most weights have. `external`: file names beside the
    graph. `scaled_by_batch`: one scale is taken for everything that is computed together, so that what a text
    gives depends on its company.
    """

    precision: str
    external: tuple[str, ...]
    scaled_by_batch: bool = False


def facts_of(path: Path, name: str) -> GraphFacts:
    """The facts of the file at `path`, whose name in its repository is `name`: of an ONNX file its own, of
    safetensors, or of an index of several, those of the graph that is made of them.

    Raises CorruptModelError.
    """
    if name.endswith(".onnx"):
        return read_facts(path)
    return GraphFacts("fp32", shards(path) if name.endswith(".json") else ())


def read_facts(path: Path) -> GraphFacts:
    """The facts of the ONNX file at `path`.

    Raises CorruptModelError when it is no ONNX file.
    """
    try:
        with path.open("rb") as file:
            # Closed when the last view of it is gone: an error's traceback may hold views for a while.
            return _facts(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except (ValueError, IndexError, OSError) as error:
        raise CorruptModelError(f"{path.name} cannot be read as an ONNX file: {error}") from error


def _facts(view: memoryview) -> GraphFacts:
    bytes_by_precision: Counter[str] = Counter()
    external: dict[str, None] = {}
    scaled_by_batch = False
    for number, graph in _fields(view):
        if number != 7 or isinstance(graph, int):
            continue
        for inner, tensor in _fields(graph):
            if inner == 5 and not isinstance(tensor, int):
                kind, elements, locations = _tensor(tensor)
                precision, width = _TYPES.get(kind, ("", 0))
                bytes_by_precision[precision] += elements * width
                external.update(dict.fromkeys(locations))
            elif inner == 1 and not isinstance(tensor, int):
                scaled_by_batch |= _kind(tensor) in _SCALES_BY_BATCH
    del bytes_by_precision[""]
    ranked = bytes_by_precision.most_common(1)
    return GraphFacts(ranked[0][0] if ranked else "fp32", tuple(external), scaled_by_batch)


def _kind(node: memoryview) -> bytes:
    """What a node computes."""
    return next(
        (bytes(value) for number, value in _fields(node) if number == 4 and not isinstance(value, int)), b""
    )


def _tensor(view: memoryview) -> tuple[int, int, list[str]]:
    """Data type, number of elements, names of the files that hold the data."""
    kind = 0
    dims: list[int] = []
    locations: list[str] = []
    for number, value in _fields(view):
        if number == 1:
            dims.extend([value] if isinstance(value, int) else _packed(value))
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 13 and not isinstance(value, int):
            entry = {n: bytes(v).decode() for n, v in _fields(value) if not isinstance(v, int)}
            if entry.get(1) == "location":
                locations.append(_inside(entry.get(2, "")))
    return kind, math.prod(dims), locations


def _inside(location: str) -> str:
    """The location, when it stays in the graph's folder: a model must not reach beyond itself."""
    path = PurePosixPath(location)
    if not location or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"it keeps tensors outside its folder, in {location!r}")
    return location


def _fields(view: memoryview) -> Iterator[_Field]:
    """Every field of a protobuf message: its number and its value (bytes fields as views)."""
    at, end = 0, len(view)
    while at < end:
        tag, at = _varint(view, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(view, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            size, at = _varint(view, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + size > end:
            raise ValueError("it ends in the middle of a field")
        yield tag >> 3, view[at : at + size]
        at += size


def _packed(view: memoryview) -> Iterator[int]:
    at = 0
    while at < len(view):
        value, at = _varint(view, at)
        yield value


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number that never ends")
