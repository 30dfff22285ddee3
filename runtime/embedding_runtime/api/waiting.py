"""For how long an answer is worked on: until the deadline, and until the client leaves."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from starlette.types import Receive

from embedding_runtime.errors import ClientLeftError, DeadlineExceededError, MalformedRequestError

_HEADER = "X-Request-Timeout-Ms"


def allowed_seconds(headers: Mapping[bytes, bytes], most: float) -> float:
    """The seconds that a request may take: the client's X-Request-Timeout-Ms, at most `most`.

    Raises MalformedRequestError.
    """
    asked = headers.get(b"x-request-timeout-ms")
    if asked is None:
        return most
    digits = asked.strip()
    if not digits.isdigit() or not digits.strip(b"0"):
        shown = asked.decode("latin-1")
        raise MalformedRequestError(
            f"{_HEADER} is {shown!r}; allowed is a positive whole number of milliseconds", param=_HEADER
        )
    # Long before the most digits that Python reads, every number is more than `most`.
    return min(most, int(digits[-18:]) / 1000) if len(digits) <= 18 else most


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Cancel the block when it takes longer.

    Raises DeadlineExceededError then.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeadlineExceededError(f"there was no answer within {1000 * seconds:.0f} ms") from None


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """Cancel the block when the client closes the connection; the body must have been read.

    Raises ClientLeftError then.
    """
    working = asyncio.current_task()
    assert working is not None  # noqa: S101  for the type checker: this is a coroutine
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = True
        working.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if left and working.uncancel() == 0:
            raise ClientLeftError("the client closed the connection") from None
        raise
    finally:
        watching.cancel()
