"""Both ends of the socket together: the client in an HTTP process and the engine's server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from embedding_runtime.errors import EngineUnavailableError, InternalError, NotReadyError
from embedding_runtime.service.client import EngineClient
from embedding_runtime.service.compute import Compute
from embedding_runtime.service.engine_process import EngineServer
from embedding_runtime.service.loading import Loaded
from tests.unit.runtime.fakes import EMBEDDER, FakeBackend, card, tokens

Check = Callable[[EngineClient, "Engine"], Awaitable[None]]


class Engine:
    """An engine in this process, that can be ended as a crash would end it."""

    def __init__(self, backend: FakeBackend, path: Path) -> None:
        self.backend, self._path = backend, path
        self.server = EngineServer(
            lambda publish: Compute(
                [EMBEDDER], lambda model: Loaded(backend, card(model)), [8], None, 1000, publish
            )
        )
        self.task = asyncio.create_task(self.server.serve(str(path)))

    async def crash(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        for writer in list(self.server._writers):
            writer.close()
        self._path.unlink()


@asynccontextmanager
async def _connected(path: Path, backend: FakeBackend) -> AsyncIterator[tuple[EngineClient, Engine]]:
    client = EngineClient(str(path), lambda _: None)
    running = asyncio.create_task(client.run())
    engine = Engine(backend, path)
    await _until(lambda: client.state is not None and client.state.state == "ready")
    try:
        yield client, engine
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if not engine.task.done():
            await engine.crash()
        engine.server.compute.stop()
        backend.go.set()
        await asyncio.to_thread(engine.server.compute.join, 10)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  what is waited for is another thread's or task's state
            await asyncio.sleep(0.005)


def _run(check: Check, path: Path, backend: FakeBackend | None = None) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), _connected(path, backend or FakeBackend()) as (client, engine):
            await check(client, engine)

    asyncio.run(run())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def test_many_requests_are_in_flight_at_once(path: Path) -> None:
    async def check(client: EngineClient, _: Engine) -> None:
        answers = await asyncio.gather(*(client.submit(0, tokens([n], [n, n])) for n in range(50)))
        for n, rows in enumerate(answers):
            np.testing.assert_array_equal(rows, [[n], [2 * n]])

    _run(check, path)


def test_a_failure_reaches_its_request(path: Path) -> None:
    async def check(client: EngineClient, _: Engine) -> None:
        with pytest.raises(InternalError, match="ZeroDivisionError"):
            await client.submit(0, tokens([1]))

    _run(check, path, FakeBackend(ZeroDivisionError()))


def test_waiters_get_an_error_at_once_when_the_engine_goes(path: Path) -> None:
    async def check(client: EngineClient, engine: Engine) -> None:
        engine.backend.go.clear()
        waiting = [asyncio.create_task(client.submit(0, tokens([1]))) for _ in range(3)]
        await _until(engine.backend.running.is_set)
        await engine.crash()
        async with asyncio.timeout(1):
            results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [EngineUnavailableError] * 3
        with pytest.raises(EngineUnavailableError):
            await client.submit(0, tokens([1]))
        assert client.state is None

    _run(check, path)


def test_the_client_comes_back_when_the_engine_does(path: Path) -> None:
    async def check(client: EngineClient, engine: Engine) -> None:
        await engine.crash()
        await _until(lambda: client.state is None)
        second = Engine(FakeBackend(), path)
        await _until(lambda: client.state is not None and client.state.state == "ready")
        np.testing.assert_array_equal(await client.submit(0, tokens([5])), [[5]])
        await second.crash()
        second.server.compute.stop()
        await asyncio.to_thread(second.server.compute.join, 10)

    _run(check, path)


def test_a_cancelled_call_is_cancelled_in_the_engine(path: Path) -> None:
    async def check(client: EngineClient, engine: Engine) -> None:
        engine.backend.go.clear()
        call = asyncio.create_task(client.submit(0, tokens(*[[1, 1]] * 30)))
        await _until(engine.backend.running.is_set)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await _until(lambda: len(engine.server.compute._backlog) == 0)
        engine.backend.go.set()
        np.testing.assert_array_equal(await client.submit(0, tokens([5])), [[5]])
        assert sum(map(len, engine.backend.batches)) <= 9

    _run(check, path)


def test_without_an_engine_a_call_fails_at_once(path: Path) -> None:
    async def check() -> None:
        with pytest.raises(EngineUnavailableError):
            await EngineClient(str(path), lambda _: None).submit(0, tokens([1]))

    asyncio.run(check())


def test_an_engine_that_still_loads_says_so(path: Path) -> None:
    async def check(client: EngineClient, engine: Engine) -> None:
        engine.server.compute._loaded.clear()
        with pytest.raises(NotReadyError):
            await client.submit(0, tokens([1]))

    _run(check, path)
