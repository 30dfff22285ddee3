"""The engine process: listens on the Unix socket and hands requests to the computing thread and answers back.

Started by the supervisor as `python -m embedding_runtime.service.engine_process SOCKET`, in an interpreter
of its own. It dies with the supervisor.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable

from embedding_runtime import metrics
from embedding_runtime.errors import RuntimeFault, WireError
from embedding_runtime.lifeline import die_with
from embedding_runtime.service import wire
from embedding_runtime.service.compute import Answer, Compute
from embedding_runtime.service.configured import configured_models
from embedding_runtime.service.loading import load
from embedding_runtime.service.state import EngineState
from embedding_runtime.settings import ServeSettings
from embedding_runtime.telemetry import configure, logger

_log = logger("engine")

_CPU_TICK_SECONDS = 5.0


class EngineServer:
    """The event loop's side of the engine: connections from the HTTP processes."""

    def __init__(self, make_compute: Callable[[Callable[[EngineState], None]], Compute]) -> None:
        self._loop = asyncio.get_running_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self.compute = make_compute(self._publish)

    async def serve(self, path: str) -> None:
        """Serve connections on the socket at `path` until cancelled."""
        server = await asyncio.start_unix_server(self._connection, path)
        self.compute.start()
        async with server:
            await server.serve_forever()

    def _publish(self, state: EngineState) -> None:
        """Send a new state to every connection; called on the computing thread."""
        self._loop.call_soon_threadsafe(self._broadcast, wire.status(state))

    def _broadcast(self, frame: bytes) -> None:
        for writer in self._writers:
            writer.write(frame)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read frames until the other end goes; then forget what it was waiting for."""
        inflight: dict[int, int] = {}
        writer.write(wire.status(self.compute.state))
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
                self.compute.cancel(ours)
            writer.close()

    def _handle(self, frame: wire.Frame, writer: asyncio.StreamWriter, inflight: dict[int, int]) -> None:
        theirs = frame.request
        if frame.kind is wire.Kind.CANCEL:
            if theirs in inflight:
                self.compute.cancel(inflight.pop(theirs))
        elif frame.kind is wire.Kind.SUBMIT:
            texts = wire.parse_submit(frame.payload)
            try:
                answer = self._answer(theirs, writer, inflight)
                inflight[theirs] = self.compute.submit(frame.slot, texts, answer)
            except WireError:
                raise
            except RuntimeFault as error:
                writer.write(wire.error(theirs, error))
        else:
            raise WireError(f"an HTTP process sent a {frame.kind.name}")

    def _answer(self, theirs: int, writer: asyncio.StreamWriter, inflight: dict[int, int]) -> Answer:
        def write(frame: bytes) -> None:
            if inflight.pop(theirs, None) is not None:
                writer.write(frame)

        def answer(result: object) -> None:
            frame = (
                wire.error(theirs, result) if isinstance(result, RuntimeFault) else wire.rows(theirs, result)  # type: ignore[arg-type]
            )
            self._loop.call_soon_threadsafe(write, frame)

        return answer


def _make_compute(settings: ServeSettings, publish: Callable[[EngineState], None]) -> Compute:
    models = configured_models(settings)
    sizes = {"embed": settings.max_embedding_batch_size, "rerank": settings.max_reranking_batch_size}
    return Compute(
        models,
        lambda model: load(model, settings),
        [sizes[model.task] for model in models],
        settings.max_batch_tokens,
        settings.max_queue_tokens,
        publish,
    )


async def _measure_cpu() -> None:
    meter = metrics.CpuMeter()
    while True:
        await asyncio.sleep(_CPU_TICK_SECONDS)
        meter.tick()


async def _main(settings: ServeSettings, path: str) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _exit)
    server = EngineServer(lambda publish: _make_compute(settings, publish))
    await asyncio.gather(server.serve(path), _measure_cpu())


def _exit() -> None:
    _log.info("engine stopped")
    # At once: the supervisor asks when nobody waits any more, and an orderly end would wait for a batch.
    os._exit(0)


def main(path: str) -> None:
    """Run the engine until SIGTERM."""
    die_with(os.getppid())
    settings = ServeSettings.load()
    configure(settings.log_filter, settings.log_format, process="engine")
    asyncio.run(_main(settings, path))


if __name__ == "__main__":
    main(sys.argv[1])
