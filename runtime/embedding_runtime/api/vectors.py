"""The forms of an answer with vectors: JSON, and two that a client reads without parsing a number.

application/octet-stream, little-endian, is a head of 16 bytes, then the rows:
    char[4] "EMB1"
    u32     number of vectors
    u32     dimensions
    u32     total_tokens, as JSON's `usage` has it
    f32[number * dimensions]
application/vnd.apache.arrow.stream is one record batch with the column `embedding`, fixed_size_list<float32>,
and the model's id, its fingerprint and total_tokens in the schema's metadata.
"""

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import nanoarrow
import nanoarrow.ipc
import orjson
from numpy.typing import NDArray

from embedding_runtime.service.answers import Embeddings

OCTETS, ARROW = "application/octet-stream", "application/vnd.apache.arrow.stream"

_HEAD = struct.Struct("<4sIII")
_MAGIC = b"EMB1"
# orjson holds Python's lock: so many numbers, a millisecond, at a time, and others get their turn between.
_NUMBERS_AT_A_TIME = 32_768
# A number in JSON with its comma, as a unit vector has them.
JSON_BYTES, _BINARY_BYTES = 13, 4


@dataclass(frozen=True)
class Form:
    """A form of the answer: its media type, what makes it, roughly how many bytes a number takes, and whether
    compression makes it smaller (the bits of a float32 vector are noise: 7 %).
    """

    media_type: str
    encode: Callable[[Embeddings], bytes]
    number_bytes: int
    compressible: bool = False


def as_json(found: Embeddings) -> bytes:
    """The documented JSON, without a Python float for each number."""
    told = {"model": found.card.id, "usage": {"total_tokens": found.tokens}}
    parts: list[bytes | memoryview] = [b"{"]
    if found.rows.size:
        parts += [b'"embeddings":[', *json_rows(found.rows), b"],"]
    if found.sparse is not None:
        each = [{"indices": one.indices, "weights": one.weights} for one in found.sparse]
        parts += [b'"sparse_embeddings":', orjson.dumps(each, option=orjson.OPT_SERIALIZE_NUMPY), b","]
    # memoryview: the brackets of a slice go without a copy of it.
    return b"".join([*parts, memoryview(orjson.dumps(told))[1:]])


def sparse_bytes(found: Embeddings) -> int:
    """Roughly how many bytes of JSON the sparse vectors are."""
    return sum(2 * JSON_BYTES * len(each.indices) for each in found.sparse or ())


def json_rows(rows: NDArray[Any]) -> Iterator[bytes | memoryview]:
    """A matrix of numbers as JSON's rows with commas between, without the brackets around all."""
    step = max(1, _NUMBERS_AT_A_TIME // rows.shape[1])
    for start in range(0, len(rows), step):
        if start:
            yield b","
        yield memoryview(orjson.dumps(rows[start : start + step], option=orjson.OPT_SERIALIZE_NUMPY))[1:-1]


def as_octets(found: Embeddings) -> bytes:
    """A head and the numbers as they are in memory."""
    return b"".join([_HEAD.pack(_MAGIC, *found.rows.shape, found.tokens), found.rows.data])


def as_arrow(found: Embeddings) -> bytes:
    """An Arrow IPC stream."""
    count, width = found.rows.shape
    column = nanoarrow.fixed_size_list(nanoarrow.float32(), width)
    told = {
        "model": found.card.id,
        "fingerprint": found.card.fingerprint,
        "total_tokens": str(found.tokens),
    }
    schema = nanoarrow.Schema(nanoarrow.struct({"embedding": column}), metadata=told)
    numbers = [None, found.rows.reshape(-1)]
    values = nanoarrow.c_array_from_buffers(nanoarrow.float32(), count * width, numbers)
    vectors = nanoarrow.c_array_from_buffers(column, count, [None], children=[values])
    batch = nanoarrow.c_array_from_buffers(schema, count, [None], children=[vectors])
    written = io.BytesIO()
    with nanoarrow.ipc.StreamWriter.from_writable(written) as writer:
        writer.write_array(batch)
    return written.getvalue()


JSON = Form("application/json", as_json, JSON_BYTES, compressible=True)
# By what Accept calls them; the first is the one without it.
FORMS = {
    form.media_type.encode(): form
    for form in (JSON, Form(OCTETS, as_octets, _BINARY_BYTES), Form(ARROW, as_arrow, _BINARY_BYTES))
}
