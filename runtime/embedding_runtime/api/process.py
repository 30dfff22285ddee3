"""The HTTP process: uvicorn over the sockets that the supervisor bound. Runs in processes forked by the
supervisor.

uvicorn closes its sockets at the first signal. Here a SIGTERM begins to drain: /health/ready says so at once,
and requests are accepted and answered until none has come for DRAIN_DELAY_SECS, since it takes a while until
nobody sends any; then the sockets close, and what is in flight has until SHUTDOWN_TIMEOUT_SECS after the
signal.
"""

import asyncio
import math
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI

from embedding_runtime.api.accepting import Acceptor, Occupancy
from embedding_runtime.api.app import create_app, create_metrics_app
from embedding_runtime.api.life import Life
from embedding_runtime.api.protocol import HttpProtocol
from embedding_runtime.service.inference import Inference
from embedding_runtime.settings import ServeSettings
from embedding_runtime.telemetry import configure, logger

_log = logger("process")

_LOOK_SECONDS = 0.01
# How often a server without work wakes up: for its Date header, which counts seconds.
_TICK_SECONDS = 1.0
# For what was cut off to be told so.
_LAST_WORDS_SECONDS = 0.5


def prepare(
    settings: ServeSettings,
    listening: socket.socket,
    metrics_listening: socket.socket | None,
    engine_socket: str,
) -> Callable[[int], None]:
    """Build everything that HTTP processes have in common; the result serves, and is called in each of them.

    It is given the process's number, serves until SIGTERM or SIGINT, drains and returns.
    """
    life = Life()
    occupancy = Occupancy(settings.api_workers)
    inference = Inference(settings, engine_socket)
    api = _config(create_app(settings, inference, life), settings, lifespan=True)
    api.load()
    around = None
    if metrics_listening is not None:
        around = _config(create_metrics_app(inference, life), settings, lifespan=False)
        around.load()

    def serve(process: int) -> None:
        configure(settings.log_filter, settings.log_format, process="http")
        servers: list[tuple[_Server, socket.socket]] = [
            (_SharingServer(api, life, occupancy, process), listening)
        ]
        if around is not None and metrics_listening is not None:
            servers.append((_Server(around, life), metrics_listening))
        asyncio.run(_serve(settings, life, servers))

    return serve


def _config(app: FastAPI, settings: ServeSettings, *, lifespan: bool) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=math.ceil(settings.keep_alive_secs),
        lifespan="on" if lifespan else "off",
    )


async def _serve(settings: ServeSettings, life: Life, servers: list[tuple["_Server", socket.socket]]) -> None:
    """Serve until a signal; the first server ends first, and the others with it."""
    api, listening = servers[0]
    others = servers[1:]
    loop = asyncio.get_running_loop()

    def stop_when_nobody_asks() -> None:
        if life.accepting > 0:
            loop.call_later(life.accepting, stop_when_nobody_asks)
        else:
            api.stop()

    def stop(number: signal.Signals) -> None:
        delay = settings.drain_delay_secs if number == signal.SIGTERM else 0.0
        first = not life.draining
        life.drain(settings.shutdown_timeout_secs, delay)
        stop_when_nobody_asks()
        if first:
            _log.info("draining", signal=number.name, delay=delay, timeout=settings.shutdown_timeout_secs)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    around = [asyncio.create_task(server.serve([bound])) for server, bound in others]
    await api.serve([listening])
    for server, _ in others:
        server.stop()
    await asyncio.gather(*around)


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to us and ends when its life does."""

    def __init__(self, config: uvicorn.Config, life: Life) -> None:
        super().__init__(config)
        self._life, self._stopping = life, asyncio.Event()

    def stop(self) -> None:
        """Close the sockets and finish what is in flight."""
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        """Wait until told to stop; uvicorn's own looks ten times a second."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _TICK_SECONDS)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, wait for what is in flight until the life ends, cut the rest off."""
        for server in self.servers:
            server.close()
        for bound in sockets or []:
            bound.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        while (state.connections or state.tasks) and self._life.left > 0:  # noqa: ASYNC110  uvicorn has no event
            await asyncio.sleep(_LOOK_SECONDS)
        if state.tasks:
            _log.warning("cutting off what did not finish in time", requests=len(state.tasks))
            for task in state.tasks:
                task.cancel()
            await asyncio.wait(state.tasks, timeout=_LAST_WORDS_SECONDS)
        await self.lifespan.shutdown()


class _SharingServer(_Server):
    """The server whose connections the HTTP processes share evenly."""

    def __init__(self, config: uvicorn.Config, life: Life, occupancy: Occupancy, process: int) -> None:
        super().__init__(config, life)
        self._occupancy, self._process = occupancy, process
        self._acceptors: list[Acceptor] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, when the application has started."""
        await super().startup([])
        self._acceptors = [
            Acceptor(bound, self._occupancy, self._process, self._protocol) for bound in sockets or []
        ]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and end as every server does."""
        for acceptor in self._acceptors:
            acceptor.close()
        await super().shutdown(sockets)

    def _protocol(self, lost: Callable[[], None]) -> asyncio.Protocol:
        return HttpProtocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state, lost=lost
        )
