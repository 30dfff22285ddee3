"""The engine process: listens on the Unix socket and hands requests to the computing thread and answers back.

Started by the supervisor as `python -m embedding_runtime.service.engine_process SOCKET PULSE`, in an
interpreter of its own. It dies with the supervisor.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from embedding_runtime import metrics
from embedding_runtime.engine.gpu import Gpu, nvml
from embedding_runtime.engine.memory import keep_trimmed, share_arenas
from embedding_runtime.engine.threads import cpu_limit
from embedding_runtime.errors import RuntimeFault, WireError
from embedding_runtime.lifeline import die_with
from embedding_runtime.pulse import Pulse
from embedding_runtime.service import wire
from embedding_runtime.service.compute import Compute
from embedding_runtime.service.configured import configured
from embedding_runtime.service.link import Link
from embedding_runtime.service.loader import Loader
from embedding_runtime.service.loading import OnnxLoading
from embedding_runtime.service.policy.admission import Bounds
from embedding_runtime.service.residents import Policy, Residents
from embedding_runtime.service.state import EngineState
from embedding_runtime.settings import ServeSettings
from embedding_runtime.telemetry import configure, logger

_log = logger("engine")

_MEASURE_SECONDS = 5.0
_BEAT_SECONDS = 0.5

_T = TypeVar("_T")

Call = Callable[[Callable[[], None]], object]
MakeResidents = Callable[[Compute, Callable[[EngineState], None], Call], Residents]


class EngineServer:
    """The event loop's side of the engine: connections from the HTTP processes."""

    def __init__(self, compute: Compute, make_residents: MakeResidents) -> None:
        self._loop = asyncio.get_running_loop()
        self._links: set[Link] = set()
        self.compute = compute
        self.residents = make_residents(compute, self._publish, self._call)

    async def serve(self, path: str) -> None:
        """Serve connections on the socket at `path` until cancelled."""
        server = await self._loop.create_unix_server(self._connected, path)
        self.compute.start()
        self.residents.start()
        try:
            async with server:
                await server.serve_forever()
        finally:
            for link in self._links:
                link.close()

    def _call(self, function: Callable[[], None]) -> None:
        """Run a function on the event loop, from any thread."""

        def run() -> None:
            try:
                function()
            except BaseException:
                _log.exception("the engine's models are in disorder")
                # Anything milder would leave requests that wait for a load which nobody remembers.
                os._exit(1)

        self._loop.call_soon_threadsafe(run)

    def _publish(self, state: EngineState) -> None:
        """Send a new state to every connection."""
        frame = wire.status(state)
        for link in self._links:
            link.send(frame)

    def _connected(self) -> Link:
        """The link of an HTTP process that connects now."""
        link = Link()
        asked = _Asked(link, self.compute, self.residents)

        def end(error: Exception | None) -> None:
            if error is not None:
                _log.error("connection ended", exc_info=error)
            self._links.discard(link)
            asked.forget()

        def begin() -> None:
            link.send(wire.status(self.residents.state))
            self._links.add(link)

        link.attend(asked.heard, end, begin)
        return link


class _Asked:
    """What one HTTP process waits for."""

    def __init__(self, link: Link, compute: Compute, residents: Residents) -> None:
        self._link, self._compute, self._residents = link, compute, residents
        # Their request to the computing thread's; None for a load, which runs on anyway. The lock: the
        # computing thread may have an answer before the event loop knows what it asked.
        self._inflight: dict[int, int | None] = {}
        self._lock = threading.Lock()

    def heard(self, frame: wire.Frame) -> None:
        """Do what a frame asks for. Raises WireError."""
        theirs = frame.request
        if frame.kind is wire.Kind.CANCEL:
            with self._lock:
                ours = self._inflight.pop(theirs, None)
            if ours is not None:
                self._compute.cancel(ours)
        elif frame.kind is wire.Kind.SUBMIT:
            texts, priority, extras = wire.parse_submit(frame.payload)
            try:
                with self._lock:
                    answer = partial(self._answer, wire.rows, theirs)
                    self._inflight[theirs] = self._compute.submit(frame.slot, texts, priority, answer, extras)
            except RuntimeFault as error:
                self._link.send(wire.error(theirs, error))
        elif frame.kind is wire.Kind.LOAD:
            wanted = wire.parse_load(frame.payload)
            with self._lock:
                self._inflight[theirs] = None
            self._residents.want(wanted, partial(self._answer, wire.loaded, theirs))
        else:
            raise WireError(f"an HTTP process sent a {frame.kind.name}")

    def forget(self) -> None:
        """Nobody waits any more."""
        with self._lock:
            inflight = list(self._inflight.values())
            self._inflight.clear()
        for ours in inflight:
            if ours is not None:
                self._compute.cancel(ours)

    def _answer(self, make: Callable[[int, _T], bytes], theirs: int, result: _T | RuntimeFault) -> None:
        """Answer a request that somebody still waits for, on the thread that has the answer."""
        with self._lock:
            if theirs not in self._inflight:
                return
            del self._inflight[theirs]
        self._link.send(
            wire.error(theirs, result) if isinstance(result, RuntimeFault) else make(theirs, result)
        )


def engine_server(settings: ServeSettings, pulse: Pulse, gpu: Gpu) -> EngineServer:
    """The engine as the settings want it; it serves when it is told where."""
    names = configured(settings)
    defaults = list(names.defaults.values())
    labels = {wanted.name for wanted in (*names.named.values(), *names.lazy.values())}
    policy = Policy(
        {"embed": settings.max_embedding_batch_size, "rerank": settings.max_reranking_batch_size},
        settings.max_batch_tokens,
        settings.model_memory_budget_bytes,
        settings.model_idle_secs,
    )

    def make(compute: Compute, publish: Callable[[EngineState], None], call: Call) -> Residents:
        loader = Loader(OnnxLoading(settings, pulse, gpu))
        residents = Residents(defaults, labels, loader, compute, policy, publish, call)

        def room(told: Callable[[bool], None]) -> None:
            call(lambda: told(residents.make_room()))

        compute.ask_for_room(room)
        return residents

    bounds = Bounds(settings.max_queue_tokens, settings.max_queue_wait_ms / 1000)
    compute = Compute(bounds, pulse=pulse, hang_seconds=settings.engine_hang_secs)
    return EngineServer(compute, make)


async def _beat(server: EngineServer, pulse: Pulse) -> None:
    while True:
        pulse.beat()
        server.residents.tick()
        server.compute.show_queue()
        await asyncio.sleep(_BEAT_SECONDS)


async def _measure(server: EngineServer, gpu: Gpu) -> None:
    meter = metrics.CpuMeter()
    while True:
        await asyncio.sleep(_MEASURE_SECONDS)
        meter.tick()
        on_gpu = any(card.provider == "cuda" for card in server.residents.cards)
        if on_gpu and (memory := gpu.memory()) is not None:
            metrics.GPU_USED.set(memory.used)
            metrics.GPU_TOTAL.set(memory.total)


async def _main(settings: ServeSettings, path: str, pulse: Pulse) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _exit)
    gpu = Gpu(nvml, os.environ.get("CUDA_VISIBLE_DEVICES"))
    server = engine_server(settings, pulse, gpu)
    await asyncio.gather(server.serve(path), _beat(server, pulse), _measure(server, gpu), keep_trimmed())


def _exit() -> None:
    _log.info("engine stopped")
    # At once: the supervisor asks when nobody waits any more, and an orderly end would wait for a batch.
    os._exit(0)


def main(path: str, pulse: str) -> None:
    """Run the engine until SIGTERM."""
    die_with(os.getppid())
    share_arenas(cpu_limit())
    settings = ServeSettings.load()
    configure(settings.log_filter, settings.log_format, process="engine")
    asyncio.run(_main(settings, path, Pulse(Path(pulse))))


if __name__ == "__main__":
    main(*sys.argv[1:])
