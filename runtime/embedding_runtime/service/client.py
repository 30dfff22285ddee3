"""An HTTP process's end of the socket: submits token batches, asks for models, keeps the
engine's last state, reconnects for ever.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from embedding_runtime.engine.backend import Extra, Tokens
from embedding_runtime.errors import EngineUnavailableError, WireError
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.service import wire
from embedding_runtime.service.link import Link
from embedding_runtime.service.policy.backlog import Priority
from embedding_runtime.service.state import EngineState
from embedding_runtime.telemetry import logger

_log = logger("client")

_RECONNECT_SECONDS = 0.05
_GONE = "the engine process is not running; it is being restarted"


class EngineClient:
    """One connection, any number of requests in flight on it."""

    def __init__(self, path: str, on_state: Callable[[EngineState | None], None]) -> None:
        self._path = path
        self._on_state = on_state
        self._link: Link | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)
        self.state: EngineState | None = None

    async def submit(
        self, slot: int, texts: Sequence[Tokens], priority: Priority, extras: Iterable[Extra] = ()
    ) -> wire.Rows:
        """The rows of these texts, and these extras. Cancelling the call cancels the request in the engine.

        Raises EngineUnavailableError at once when the engine is not there or dies meanwhile,
        RequestTooLargeError, and what the engine answers: OverloadedError, UnloadedError, OutOfMemoryError,
        InternalError.
        """
        request = next(self._ids)
        rows: wire.Rows = await self._ask(request, wire.submit(slot, request, texts, priority, extras))
        return rows

    async def load(self, wanted: Wanted) -> int:
        """Have a model ready; its slot. By then `state` shows it.

        Raises EngineUnavailableError, OverloadedError, and what keeps the model from being loaded.
        """
        request = next(self._ids)
        slot: int = await self._ask(request, wire.load(request, wanted))
        return slot

    async def _ask(self, request: int, frame: bytes) -> Any:
        if self._link is None:
            raise EngineUnavailableError(_GONE, retry_after=1)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[request] = future
        try:
            self._link.send(frame)
            return await future
        except asyncio.CancelledError:
            if self._link is not None and request in self._waiting:
                self._link.send(wire.cancel(request))
            raise
        finally:
            self._waiting.pop(request, None)

    async def run(self) -> None:
        """Stay connected until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            ended: asyncio.Future[Exception | None] = loop.create_future()
            try:
                await loop.create_unix_connection(partial(self._attended, ended), self._path)
            except OSError:
                await asyncio.sleep(_RECONNECT_SECONDS)
                continue
            try:
                if (error := await ended) is not None:
                    # Whatever it was: without this loop the process would answer 503 for ever.
                    _log.error("connection to the engine ended", exc_info=error)
                    await asyncio.sleep(_RECONNECT_SECONDS)
            finally:
                self._disconnected()

    def _attended(self, ended: asyncio.Future[Exception | None]) -> Link:
        """A link whose end settles the future."""
        link = Link()

        def begin() -> None:
            self._link = link

        def end(error: Exception | None) -> None:
            if not ended.done():
                ended.set_result(error)

        link.attend(self._heard, end, begin)
        return link

    def _heard(self, frame: wire.Frame) -> None:
        """Raises WireError."""
        if frame.kind is wire.Kind.STATUS:
            self.state = wire.parse_status(frame.payload)
            self._on_state(self.state)
            return
        future = self._waiting.get(frame.request)
        if future is None or future.done():
            return
        if frame.kind is wire.Kind.ROWS:
            future.set_result(wire.parse_rows(frame.payload))
        elif frame.kind is wire.Kind.LOADED:
            future.set_result(frame.slot)
        elif frame.kind is wire.Kind.ERROR:
            future.set_exception(wire.parse_error(frame.payload))
        else:
            raise WireError(f"the engine sent a {frame.kind.name}")

    def _disconnected(self) -> None:
        """Every waiter gets its error now; nobody waits for an engine that may never come back."""
        if self._link is not None:
            self._link.close()
        self._link, self.state = None, None
        self._on_state(None)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(EngineUnavailableError(_GONE, retry_after=1))
