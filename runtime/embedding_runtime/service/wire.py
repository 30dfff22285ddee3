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
                                bit 1: it is bulk (else interactive)
    2 CANCEL (to the engine)    empty: nobody waits for this request any more; it is not answered
    3 ROWS   (from the engine)  u32 n, u32 width, f32 seconds in the queue, f32 seconds computing,
                                f32[n * width]: the rows in the order of the submitted texts
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import orjson

from embedding_runtime.engine.backend import Float32, Tokens
from embedding_runtime.errors import RequestTooLargeError, RuntimeFault, WireError, fault
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.service.policy.backlog import Priority
from embedding_runtime.service.state import EngineState, wanted_from_json, wanted_to_json

MAX_PAYLOAD = 64 << 20

_HEADER = struct.Struct("<IB3xIQ")
_PAIR = struct.Struct("<II")
_ROWS_HEAD = struct.Struct("<IIff")
_HAS_TYPE_IDS, _BULK = 1, 2


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
    """

    values: Float32
    queue: float
    compute: float


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


def submit(slot: int, request: int, texts: Sequence[Tokens], priority: Priority) -> bytes:
    """A SUBMIT frame.

    Raises RequestTooLargeError when the texts do not fit one.
    """
    total = sum(len(text) for text in texts)
    typed = any(text.type_ids is not None for text in texts)
    if 8 + 4 * len(texts) + (5 if typed else 4) * total > MAX_PAYLOAD:
        raise RequestTooLargeError(
            f"the request has {total} tokens, too many for one request; send fewer inputs"
        )
    parts = [
        _PAIR.pack(len(texts), _HAS_TYPE_IDS * typed | _BULK * (priority == "bulk")),
        struct.pack(f"<{len(texts)}i", *map(len, texts)),
        *(text.ids.astype("<i4", copy=False).tobytes() for text in texts),
    ]
    if typed:
        parts += [
            bytes(len(text)) if text.type_ids is None else text.type_ids.astype("u1", copy=False).tobytes()
            for text in texts
        ]
    return _frame(Kind.SUBMIT, slot, request, b"".join(parts))


def parse_submit(payload: bytes) -> tuple[list[Tokens], Priority]:
    """The texts of a SUBMIT, and their class.

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
    except (struct.error, ValueError) as error:
        raise WireError(f"a SUBMIT that does not parse: {error}") from None
    if count == 0 or min(lengths) < 1 or at != len(payload):
        raise WireError("a SUBMIT whose lengths do not add up")
    texts = [
        Tokens(ids[end - size : end], None if types is None else types[end - size : end])
        for end, size in zip(itertools.accumulate(lengths), lengths, strict=True)
    ]
    return texts, "bulk" if flags & _BULK else "interactive"


def cancel(request: int) -> bytes:
    """A CANCEL frame."""
    return _frame(Kind.CANCEL, 0, request, b"")


def rows(request: int, answer: Rows) -> bytes:
    """A ROWS frame; too many rows for one frame become an ERROR frame."""
    if _ROWS_HEAD.size + answer.values.nbytes > MAX_PAYLOAD:
        return error(
            request, RequestTooLargeError("the answer is too large for one request; send fewer inputs")
        )
    body = answer.values.astype("<f4", copy=False).tobytes()
    head = _ROWS_HEAD.pack(*answer.values.shape, answer.queue, answer.compute)
    return _frame(Kind.ROWS, 0, request, head + body)


def parse_rows(payload: bytes) -> Rows:
    """What a ROWS holds.

    Raises WireError.
    """
    try:
        count, width, queue, compute = _ROWS_HEAD.unpack_from(payload)
        values = np.frombuffer(payload, dtype="<f4", offset=_ROWS_HEAD.size)
        return Rows(values.reshape(count, width), queue, compute)
    except (struct.error, ValueError) as error_:
        raise WireError(f"a ROWS that does not parse: {error_}") from None


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
