"""Content codings, both ways: gzip and zstd.

gzip is isal's: on the JSON of vectors it takes a third of zlib's time for the same size. The figures are in
docs/adr/0011-http.md.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import Protocol

from isal import isal_zlib

from embedding_runtime.api import negotiation
from embedding_runtime.errors import MalformedRequestError, RequestTooLargeError, UnsupportedEncodingError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP, ZSTD = b"gzip", b"zstd"
# In the order of preference: zstd makes less of the same vectors in as much time.
OFFERED = (ZSTD, GZIP)

# A head of its own costs a small answer more than it saves, and below a packet nothing is saved.
_LEAST_BYTES = 1_400
_LEVEL = 1
_GZIP_FORMAT = 31
# RFC 9659: no more than 8 MB of window. A frame may ask its reader for gigabytes.
_ZSTD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}
_BROKEN: tuple[type[Exception], ...] = (
    isal_zlib.error,  # type: ignore[assignment]  # its stub calls the class an instance
    zstd.ZstdError,
)
# Members of a gzip file, frames of zstd: any number is allowed, and a server has to stop somewhere.
_MOST_PARTS = 256


class _Stream(Protocol):
    """One gzip member or zstd frame that is read."""

    @property
    def eof(self) -> bool:
        """Whether its end was read."""

    @property
    def unused_data(self) -> bytes:
        """What came after its end."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """As much of it as `data` holds, at most so many bytes."""


_READERS: dict[bytes, Callable[[], _Stream]] = {
    GZIP: lambda: isal_zlib.decompressobj(wbits=_GZIP_FORMAT),
    ZSTD: lambda: zstd.ZstdDecompressor(options=_ZSTD_OPTIONS),
}


async def decoded(body: bytes, headers: Mapping[bytes, bytes], most: int) -> bytes:
    """The body without its Content-Encoding; nothing larger than `most` bytes is ever held.

    Raises UnsupportedEncodingError, MalformedRequestError, RequestTooLargeError.
    """
    stated = headers.get(b"content-encoding")
    if stated is None:
        return body
    names = [name for part in stated.split(b",") if (name := part.strip().lower()) not in (b"", b"identity")]
    if not names:
        return body
    name = names[0].removeprefix(b"x-")
    if len(names) > 1 or name not in _READERS:
        raise UnsupportedEncodingError(
            f"the Content-Encoding is {stated.decode('latin-1')}; allowed is one of "
            f"{', '.join(offer.decode() for offer in OFFERED)}",
            param="Content-Encoding",
        )
    return await asyncio.to_thread(_whole, body, name, most)


def _whole(body: bytes, name: bytes, most: int) -> bytes:
    pieces: list[bytes] = []
    room = most
    for _ in range(_MOST_PARTS):
        stream = _READERS[name]()
        try:
            piece = stream.decompress(body, room + 1)
        except _BROKEN as error:
            raise MalformedRequestError(f"the body is not {name.decode()}: {error}") from None
        room -= len(piece)
        if room < 0:
            raise RequestTooLargeError(
                f"the body is larger than {most} bytes (MAX_REQUEST_BYTES) when unpacked"
            )
        if not stream.eof:
            raise MalformedRequestError(f"the body is not {name.decode()}: it ends too early")
        pieces.append(piece)
        body = stream.unused_data
        if not body:
            return b"".join(pieces)
    raise MalformedRequestError(f"the body has more than {_MOST_PARTS} {name.decode()} parts; send it as one")


def compressed(body: bytes, accepted: bytes) -> tuple[bytes, bytes | None]:
    """The body as the Accept-Encoding header `accepted` prefers it, and the coding; None: as it was."""
    chosen = negotiation.coding(accepted, OFFERED) if len(body) >= _LEAST_BYTES else None
    if chosen == ZSTD:
        return zstd.compress(body, _LEVEL), chosen
    if chosen == GZIP:
        return isal_zlib.compress(body, _LEVEL, _GZIP_FORMAT), chosen
    return body, None
