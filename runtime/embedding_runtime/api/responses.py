"""Answers: JSON in one pass, and large ones made off the event loop, compressed where the client takes it."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.responses import Response

from embedding_runtime.api.codings import compressed

# Half a millisecond of encoding: below it the way to a thread and back costs as much.
_INLINE_BYTES = 100_000


def json_response(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`content` (plain values) as a JSON response."""
    return Response(orjson.dumps(content), status, headers=dict(headers or {}), media_type="application/json")


async def encoded_response(
    make: Callable[[], bytes],
    *,
    size: int,
    media_type: str,
    accepted: bytes | None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response with the body that `make` makes, in a thread where its rough `size` in bytes is large.

    `accepted`: the client's Accept-Encoding; None where compression is of no use.
    """

    def encode() -> tuple[bytes, bytes | None]:
        body = make()
        return (body, None) if accepted is None else compressed(body, accepted)

    body, coding = encode() if size < _INLINE_BYTES else await asyncio.to_thread(encode)
    told = dict(headers or {})
    if accepted is not None:
        told["Vary"] = "Accept-Encoding"
    if coding is not None:
        told["Content-Encoding"] = coding.decode()
    return Response(body, headers=told, media_type=media_type)
