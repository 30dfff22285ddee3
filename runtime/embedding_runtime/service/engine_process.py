"""The engine process: listens on the Unix socket and hands requests to the computing thread and answers back.

Started by the supervisor as `python -m embedding_runtime.service.engine_process SOCKET PULSE`, in an
interpreter of its own. It dies with the supervisor.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from embedding_runtime import metrics
from embedding_runtime.engine.gpu import Gpu, nvml
from embedding_runtime.errors import RuntimeFault, WireError
from embedding_runtime.lifeline import die_with
from embedding_runtime.pulse import Pulse
from embedding_runtime.service import wire
from embedding_runtime.service.compute import Compute
from embedding_runtime.service.configured import configured
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
        self._writers: set[asyncio.StreamWriter] = set()
        self.compute = compute
        self.residents = make_residents(compute, self._publish, self._call)

    async def serve(self, path: str) -> None:
        """Serve connections on the socket at `path` until cancelled."""
        server = await asyncio.start_unix_server(self._connection, path)
        self.compute.start()
        self.residents.start()
        async with server:
            await server.serve_forever()

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
        for writer in self._writers:
            writer.write(frame)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read frames until the other end goes; then forget what it was waiting for."""
        inflight: dict[int, int | None] = {}
        writer.write(wire.status(self.residents.state))
        self._writers.add(writer)
        try:
            while (frame := await wire.read_frame(reader)) is not None:
                self._handle(frame, writer, inflight)
                await writer.drain()
        except (WireError, ConnectionError) as error:
            _log.error("connection ended", error=str(error))
        finally:
            self._writers.discard(writer)
            for ours in inflight.values():
                self._cancel(ours)
            inflight.clear()
            writer.close()

    def _handle(
        self, frame: wire.Frame, writer: asyncio.StreamWriter, inflight: dict[int, int | None]
    ) -> None:
        """`inflight`: their request to the computing thread's; None for a load, which runs on anyway."""
        theirs = frame.request
        if frame.kind is wire.Kind.CANCEL:
            if theirs in inflight:
                self._cancel(inflight.pop(theirs))
        elif frame.kind is wire.Kind.SUBMIT:
            texts, priority = wire.parse_submit(frame.payload)

            def answer(result: wire.Rows | RuntimeFault) -> None:
                told = _error_or(wire.rows, theirs, result)
                self._loop.call_soon_threadsafe(_write, writer, inflight, theirs, told)

            try:
                inflight[theirs] = self.compute.submit(frame.slot, texts, priority, answer)
            except RuntimeFault as error:
                writer.write(wire.error(theirs, error))
        elif frame.kind is wire.Kind.LOAD:
            wanted = wire.parse_load(frame.payload)
            inflight[theirs] = None

            def ready(result: int | RuntimeFault) -> None:
                told = _error_or(wire.loaded, theirs, result)
                _write(writer, inflight, theirs, told)

            self.residents.want(wanted, ready)
        else:
            raise WireError(f"an HTTP process sent a {frame.kind.name}")

    def _cancel(self, ours: int | None) -> None:
        if ours is not None:
            self.compute.cancel(ours)


def _error_or(answer: Callable[[int, _T], bytes], request: int, result: _T | RuntimeFault) -> bytes:
    """The frame for what came of a request: an ERROR, or what `answer` makes of it."""
    return wire.error(request, result) if isinstance(result, RuntimeFault) else answer(request, result)


def _write(writer: asyncio.StreamWriter, inflight: dict[int, int | None], theirs: int, frame: bytes) -> None:
    """Answer a request that somebody still waits for."""
    if theirs in inflight:
        del inflight[theirs]
        writer.write(frame)


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
    await asyncio.gather(server.serve(path), _beat(server, pulse), _measure(server, gpu))


def _exit() -> None:
    _log.info("engine stopped")
    # At once: the supervisor asks when nobody waits any more, and an orderly end would wait for a batch.
    os._exit(0)


def main(path: str, pulse: str) -> None:
    """Run the engine until SIGTERM."""
    die_with(os.getppid())
    settings = ServeSettings.load()
    configure(settings.log_filter, settings.log_format, process="engine")
    asyncio.run(_main(settings, path, Pulse(Path(pulse))))


if __name__ == "__main__":
    main(*sys.argv[1:])
