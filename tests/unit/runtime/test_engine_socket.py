"""Both ends of the socket together: the client in an HTTP process and the engine's server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from embedding_runtime.errors import (
    EngineUnavailableError,
    InternalError,
    ModelNotFoundError,
    UnloadedError,
)
from embedding_runtime.model.source import ModelSource
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.service.client import EngineClient
from embedding_runtime.service.compute import Compute
from embedding_runtime.service.engine_process import EngineServer
from embedding_runtime.service.loader import Loader
from embedding_runtime.service.loading import Loaded
from embedding_runtime.service.policy.admission import Bounds
from embedding_runtime.service.residents import Policy, Residents
from tests.unit.runtime.fakes import COSTS, EMBEDDER, RERANKER, FakeBackend, card, source, tokens

Check = Callable[[EngineClient, "Engine"], Awaitable[None]]


class FakeLoading:
    """Loads the made backend, or fails as it is told."""

    def __init__(self, backend: FakeBackend, failure: Exception | None = None) -> None:
        self.backend, self.failure = backend, failure

    def fetch(self, wanted: Wanted) -> ModelSource:
        if self.failure:
            raise self.failure
        return source(wanted)

    def build(self, wanted: Wanted, _: ModelSource) -> Loaded:
        return Loaded(self.backend, card(wanted), COSTS, 0.5)


class Engine:
    """An engine in this process, that can be ended as a crash would end it."""

    def __init__(self, backend: FakeBackend, path: Path, failure: Exception | None = None) -> None:
        self.backend, self._path = backend, path
        loader = Loader(FakeLoading(backend, failure))
        policy = Policy({"embed": 8, "rerank": 8})
        self.server = EngineServer(
            Compute(Bounds(1000, 60)),
            lambda compute, publish, call: Residents([EMBEDDER], [], loader, compute, policy, publish, call),
        )
        self.task = asyncio.create_task(self.server.serve(str(path)))

    async def crash(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self._path.unlink()


@asynccontextmanager
async def _connected(path: Path, backend: FakeBackend) -> AsyncIterator[tuple[EngineClient, Engine]]:
    client = EngineClient(str(path), lambda _: None)
    running = asyncio.create_task(client.run())
    engine = Engine(backend, path)
    await _until(lambda: _is_ready(client))
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


def _is_ready(client: EngineClient) -> bool:
    return client.state is not None and all(model.card for model in client.state.models)


def _slot(client: EngineClient) -> int:
    assert client.state is not None
    return client.state.models[0].slot


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
        answers = await asyncio.gather(
            *(client.submit(_slot(client), tokens([n], [n, n]), "interactive") for n in range(50))
        )
        for n, rows in enumerate(answers):
            np.testing.assert_array_equal(rows.values, [[n], [2 * n]])

    _run(check, path)


def test_a_failure_reaches_its_request(path: Path) -> None:
    async def check(client: EngineClient, _: Engine) -> None:
        with pytest.raises(InternalError, match="ZeroDivisionError"):
            await client.submit(_slot(client), tokens([1]), "interactive")

    _run(check, path, FakeBackend(ZeroDivisionError()))


def test_waiters_get_an_error_at_once_when_the_engine_goes(path: Path) -> None:
    async def check(client: EngineClient, engine: Engine) -> None:
        engine.backend.go.clear()
        waiting = [
            asyncio.create_task(client.submit(_slot(client), tokens([1]), "interactive")) for _ in range(3)
        ]
        await _until(engine.backend.running.is_set)
        await engine.crash()
        async with asyncio.timeout(1):
            results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [EngineUnavailableError] * 3
        assert client.state is None
        with pytest.raises(EngineUnavailableError):
            await client.submit(0, tokens([1]), "interactive")

    _run(check, path)


def test_the_client_comes_back_when_the_engine_does(path: Path) -> None:
    async def check(client: EngineClient, engine: Engine) -> None:
        await engine.crash()
        await _until(lambda: client.state is None)
        second = Engine(FakeBackend(), path)
        await _until(lambda: _is_ready(client))
        np.testing.assert_array_equal(
            (await client.submit(_slot(client), tokens([5]), "interactive")).values, [[5]]
        )
        await second.crash()
        second.server.compute.stop()
        await asyncio.to_thread(second.server.compute.join, 10)

    _run(check, path)


def test_a_cancelled_call_is_cancelled_in_the_engine(path: Path) -> None:
    async def check(client: EngineClient, engine: Engine) -> None:
        engine.backend.go.clear()
        call = asyncio.create_task(client.submit(_slot(client), tokens(*[[1, 1]] * 30), "interactive"))
        await _until(engine.backend.running.is_set)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await _until(lambda: len(engine.server.compute._backlog) == 0)
        engine.backend.go.set()
        np.testing.assert_array_equal(
            (await client.submit(_slot(client), tokens([5]), "interactive")).values, [[5]]
        )
        assert sum(map(len, engine.backend.batches)) <= 9

    _run(check, path)


def test_without_an_engine_a_call_fails_at_once(path: Path) -> None:
    async def check() -> None:
        with pytest.raises(EngineUnavailableError):
            await EngineClient(str(path), lambda _: None).submit(0, tokens([1]), "interactive")

    asyncio.run(check())


def test_a_slot_that_was_never_given_has_nothing_loaded(path: Path) -> None:
    async def check(client: EngineClient, _: Engine) -> None:
        with pytest.raises(UnloadedError):
            await client.submit(2**32 - 1, tokens([1]), "interactive")

    _run(check, path)


def test_a_further_model_is_loaded_when_it_is_asked_for(path: Path) -> None:
    async def check(client: EngineClient, _: Engine) -> None:
        assert await client.load(EMBEDDER) == _slot(client)
        slots = await asyncio.gather(*(client.load(RERANKER) for _ in range(5)))
        assert set(slots) == {slots[0]} != {_slot(client)}
        assert client.state is not None
        found = client.state.find(RERANKER)
        assert found is not None
        assert (found.slot, found.state, found.default) == (slots[0], "ready", False)
        np.testing.assert_array_equal(
            (await client.submit(slots[0], tokens([5]), "interactive")).values, [[5]]
        )

    _run(check, path)


def test_what_keeps_a_model_from_being_loaded_is_answered(path: Path) -> None:
    async def check() -> None:
        client = EngineClient(str(path), lambda _: None)
        running = asyncio.create_task(client.run())
        engine = Engine(FakeBackend(), path, ModelNotFoundError("no such model"))
        async with asyncio.timeout(10):
            await _until(lambda: client.state is not None)
            with pytest.raises(ModelNotFoundError, match="no such model"):
                await client.load(RERANKER)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await engine.crash()
        engine.server.compute.stop()
        await asyncio.to_thread(engine.server.compute.join, 10)

    asyncio.run(check())
