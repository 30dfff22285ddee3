"""The frames between the HTTP processes and the engine, on a Unix stream socket. Everything is little-endian.

Header, 20 bytes:
    u32 length of the payload in bytes, at most MAX_PAYLOAD
    u8  kind
    u8[3] 0
    u32 slot: which model, as a STATUS or a LOADED told; never used again for another one
    u64 request: chosen by the HTTP process, unique on its connection; answers carry it back. 0 in a STATUS

Payloads, by kind:
    1 SUBMIT (to the engine)    u32 n, u32 flags, i32[n] lengths, i32[sum] token ids, and where flags has
                                bit 0: u8[sum] token type ids (else they are all zero);
                                bit 1: it is bulk (else interactive);
                                bit 2 and on: which of the extras (engine.backend.EXTRAS) are wanted;
                                bit 31: i32[n] how many first tokens are left out of the pooling (else none)
    2 CANCEL (to the engine)    empty: nobody waits for this request any more; it is not answered
    3 ROWS   (from the engine)  u32 n, u32 width, f32 seconds in the queue, f32 seconds computing,
                                f32[n * width]: the rows in the order of the submitted texts; then for each
                                extra in the order of EXTRAS: u32 which, u32 width, u32[n] counts,
                                f32[sum of counts * width]
    4 ERROR  (from the engine)  JSON {"code", "message", "retry_after"}: the whole request failed
    5 STATUS (from the engine)  JSON of service.state.EngineState, first on every connection and after each
                                change
    6 LOAD   (to the engine)    JSON of a Wanted: have this model ready
    7 LOADED (from the engine)  empty: it is ready, in this slot; the STATUS that shows it came before

Every SUBMIT is answered by exactly one ROWS or ERROR, every LOAD by one LOADED or ERROR, unless it was
cancelled. Any number may be in flight. A frame that breaks these rules ends the connection. Both ends run the
same version, so there is no negotiation.
"""

import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import orjson

from embedding_runtime.engine.backend import EXTRAS, Extra, Float32, Tokens
from embedding_runtime.errors import RequestTooLargeError, RuntimeFault, WireError, fault
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.service.policy.backlog import Priority
from embedding_runtime.service.state import EngineState, wanted_from_json, wanted_to_json

MAX_PAYLOAD = 64 << 20

_HEADER = struct.Struct("<IB3xIQ")
_PAIR = struct.Struct("<II")
_ROWS_HEAD = struct.Struct("<IIff")
_HAS_TYPE_IDS, _BULK, _FIRST_EXTRA, _HAS_UNPOOLED = 1, 2, 4, 1 << 31


class Kind(IntEnum):
    """What a frame is."""

    SUBMIT = 1
    CANCEL = 2
    ROWS = 3
    ERROR = 4
    STATUS = 5
    LOAD = 6
    LOADED = 7


@dataclass(frozen=True)
class Frame:
    """One frame as it was read."""

    kind: Kind
    slot: int
    request: int
    payload: bytes


@dataclass(frozen=True)
class Rows:
    """The answer to a SUBMIT: float32 [n, width], and how long it took in the engine.

    `queue`: seconds until the first of its texts was in a batch; `compute`: from then to the last one's end.
    `extras`: what was asked for besides, float32 [k, width] for each text.
    """

    values: Float32
    queue: float
    compute: float
    extras: Mapping[Extra, Sequence[Float32]] = field(default_factory=dict)


class Frames:
    """Takes frames out of a stream of bytes that come in pieces of any size."""

    def __init__(self) -> None:
        self._held = bytearray()

    def read(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole with these bytes; the rest waits for the next ones.

        Raises WireError for a frame that is too long or of an unknown kind.
        """
        self._held += data
        at = 0
        try:
            while len(self._held) - at >= _HEADER.size:
                length, kind, slot, request = _HEADER.unpack_from(self._held, at)
                if length > MAX_PAYLOAD:
                    raise WireError(f"a frame of {length} bytes; the most is {MAX_PAYLOAD}")
                begin = at + _HEADER.size
                if len(self._held) < begin + length:
                    break
                at = begin + length
                yield Frame(_kind(kind), slot, request, bytes(memoryview(self._held)[begin:at]))
        finally:
            del self._held[:at]


def submit(
    slot: int, request: int, texts: Sequence[Tokens], priority: Priority, extras: Iterable[Extra] = ()
) -> bytes:
    """A SUBMIT frame.

    Raises RequestTooLargeError when the texts do not fit one.
    """
    total = sum(len(text) for text in texts)
    typed = any(text.type_ids is not None for text in texts)
    unpooled = any(text.unpooled for text in texts)
    if 8 + (8 if unpooled else 4) * len(texts) + (5 if typed else 4) * total > MAX_PAYLOAD:
        raise RequestTooLargeError(
            f"the request has {total} tokens, too many for one request; send fewer inputs"
        )
    flags = _HAS_TYPE_IDS * typed | _HAS_UNPOOLED * unpooled | _BULK * (priority == "bulk")
    for name in extras:
        flags |= _FIRST_EXTRA << EXTRAS.index(name)
    parts = [
        _PAIR.pack(len(texts), flags),
        struct.pack(f"<{len(texts)}i", *map(len, texts)),
        *(text.ids.astype("<i4", copy=False).tobytes() for text in texts),
    ]
    if typed:
        parts += [
            bytes(len(text)) if text.type_ids is None else text.type_ids.astype("u1", copy=False).tobytes()
            for text in texts
        ]
    if unpooled:
        parts.append(struct.pack(f"<{len(texts)}i", *(text.unpooled for text in texts)))
    return _frame(Kind.SUBMIT, slot, request, b"".join(parts))


def parse_submit(payload: bytes) -> tuple[list[Tokens], Priority, frozenset[Extra]]:
    """The texts of a SUBMIT, their class, and what is wanted beside their rows.

    Raises WireError.
    """
    try:
        count, flags = _PAIR.unpack_from(payload)
        lengths = struct.unpack_from(f"<{count}i", payload, _PAIR.size)
        total = sum(lengths)
        at = _PAIR.size + 4 * count
        ids = np.frombuffer(payload, dtype="<i4", count=total, offset=at)
        at += 4 * total
        types = None
        if flags & _HAS_TYPE_IDS:
            types = np.frombuffer(payload, dtype="u1", count=total, offset=at)
            at += total
        unpooled: Sequence[int] = [0] * count
        if flags & _HAS_UNPOOLED:
            unpooled = struct.unpack_from(f"<{count}i", payload, at)
            at += 4 * count
    except (struct.error, ValueError) as error:
        raise WireError(f"a SUBMIT that does not parse: {error}") from None
    if count == 0 or min(lengths) < 1 or at != len(payload) or min(unpooled) < 0:
        raise WireError("a SUBMIT whose lengths do not add up")
    texts = [
        Tokens(ids[end - size : end], None if types is None else types[end - size : end], left_out)
        for end, size, left_out in zip(itertools.accumulate(lengths), lengths, unpooled, strict=True)
    ]
    extras = frozenset(name for at, name in enumerate(EXTRAS) if flags & _FIRST_EXTRA << at)
    return texts, "bulk" if flags & _BULK else "interactive", extras


def cancel(request: int) -> bytes:
    """A CANCEL frame."""
    return _frame(Kind.CANCEL, 0, request, b"")


def rows(request: int, answer: Rows) -> bytes:
    """A ROWS frame; too many rows for one frame become an ERROR frame."""
    size = answer.values.nbytes + sum(part.nbytes for found in answer.extras.values() for part in found)
    if size + _ROWS_HEAD.size + len(answer.extras) * (_PAIR.size + 4 * len(answer.values)) > MAX_PAYLOAD:
        return error(
            request, RequestTooLargeError("the answer is too large for one request; send fewer inputs")
        )
    head = _ROWS_HEAD.pack(*answer.values.shape, answer.queue, answer.compute)
    body = [head, answer.values.astype("<f4", copy=False).tobytes()]
    for at, name in enumerate(EXTRAS):
        if found := answer.extras.get(name):
            body += [_PAIR.pack(at, found[0].shape[1]), struct.pack(f"<{len(found)}I", *map(len, found))]
            body += [part.astype("<f4", copy=False).tobytes() for part in found]
    return _frame(Kind.ROWS, 0, request, b"".join(body))


def parse_rows(payload: bytes) -> Rows:
    """What a ROWS holds.

    Raises WireError.
    """
    try:
        count, width, queue, compute = _ROWS_HEAD.unpack_from(payload)
        at = _ROWS_HEAD.size
        values = np.frombuffer(payload, dtype="<f4", count=count * width, offset=at)
        extras = dict(_extras(payload, at + values.nbytes, count))
        return Rows(values.reshape(count, width), queue, compute, extras)
    except (struct.error, ValueError, IndexError, OverflowError) as error_:
        raise WireError(f"a ROWS that does not parse: {error_}") from None


def _extras(payload: bytes, at: int, texts: int) -> Iterator[tuple[Extra, list[Float32]]]:
    while at < len(payload):
        which, width = _PAIR.unpack_from(payload, at)
        at += _PAIR.size
        counts = struct.unpack_from(f"<{texts}I", payload, at)
        at += 4 * texts
        found: list[Float32] = []
        for count in counts:
            part = np.frombuffer(payload, dtype="<f4", count=count * width, offset=at)
            found.append(part.reshape(count, width))
            at += part.nbytes
        yield EXTRAS[which], found


def error(request: int, failure: RuntimeFault) -> bytes:
    """An ERROR frame."""
    body = {"code": failure.code, "message": failure.message, "retry_after": failure.retry_after}
    return _frame(Kind.ERROR, 0, request, orjson.dumps(body))


def parse_error(payload: bytes) -> RuntimeFault:
    """The failure of an ERROR.

    Raises WireError.
    """
    values = _json(payload)
    try:
        return fault(values["code"], values["message"], values["retry_after"])
    except (KeyError, TypeError) as missing:
        raise WireError(f"an ERROR without {missing}") from None


def status(state: EngineState) -> bytes:
    """A STATUS frame."""
    return _frame(Kind.STATUS, 0, 0, orjson.dumps(state.to_json()))


def parse_status(payload: bytes) -> EngineState:
    """The state of a STATUS.

    Raises WireError.
    """
    try:
        return EngineState.from_json(_json(payload))
    except (KeyError, TypeError, ValueError) as mismatch:
        raise WireError(f"a STATUS that does not parse: {mismatch}") from None


def load(request: int, wanted: Wanted) -> bytes:
    """A LOAD frame."""
    return _frame(Kind.LOAD, 0, request, orjson.dumps(wanted_to_json(wanted)))


def parse_load(payload: bytes) -> Wanted:
    """The model of a LOAD.

    Raises WireError.
    """
    try:
        return wanted_from_json(_json(payload))
    except (KeyError, TypeError, ValueError) as mismatch:
        raise WireError(f"a LOAD that does not parse: {mismatch}") from None


def loaded(request: int, slot: int) -> bytes:
    """A LOADED frame."""
    return _frame(Kind.LOADED, slot, request, b"")


def _kind(number: int) -> Kind:
    try:
        return Kind(number)
    except ValueError:
        raise WireError(f"a frame of the unknown kind {number}") from None


def _json(payload: bytes) -> dict[str, Any]:
    try:
        values: dict[str, Any] = orjson.loads(payload)
    except orjson.JSONDecodeError as broken:
        raise WireError(f"a payload that is not JSON: {broken}") from None
    return values


def _frame(kind: Kind, slot: int, request: int, payload: bytes) -> bytes:
    return _HEADER.pack(len(payload), kind, slot, request) + payload
