"""The pods' servers, over HTTP: the only file that talks to them. What they say is read in readiness.py."""

import asyncio
import os

import aiohttp

from embedding_operator import readiness
from embedding_operator.readiness import Silence, Told

TIMEOUT_SECONDS = 2.0
_ANSWER_BYTES = 64 * 1024


class HttpServers:
    """Implements ports.Servers. To be made inside the event loop, and closed there."""

    def __init__(self, timeout: float = TIMEOUT_SECONDS) -> None:
        self._timeout = timeout
        # a pod is asked rarely: a connection that is kept would only hold up its drain
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=20))

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()

    async def readiness(self, host: str, port: int) -> Told:
        """See ports.Servers."""
        address = f"[{host}]" if ":" in host else host
        url = f"http://{address}:{port}{readiness.PATH}"
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._session.get(url, allow_redirects=False) as answer,
            ):
                return readiness.report(answer.status, await _start(answer.content))
        except TimeoutError:
            return Silence(f"no answer within {self._timeout:.0f} s")
        except (aiohttp.ClientError, OSError) as error:
            return Silence(_words(error))


async def _start(content: aiohttp.StreamReader) -> bytes:
    """Returns an answer's body, or as much of it as one of ours ever has."""
    found = bytearray()
    while len(found) < _ANSWER_BYTES and (chunk := await content.read(_ANSWER_BYTES)):
        found += chunk
    return bytes(found)


def _words(error: Exception) -> str:
    """Returns what went wrong without the address, which the error's own text has."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    number = cause.errno if isinstance(cause, OSError) else None
    return os.strerror(number) if number else type(cause).__name__
