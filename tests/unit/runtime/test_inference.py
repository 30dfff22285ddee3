"""What the routes ask for, over an engine in this process with made models."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from embedding_runtime.engine.gpu import Gpu, nvml
from embedding_runtime.errors import (
    EngineUnavailableError,
    InputTooLongError,
    LoadFailedError,
    NotReadyError,
    TooManyInputsError,
    UnknownModelError,
    UntrainedDimensionsError,
)
from embedding_runtime.pulse import Pulse
from embedding_runtime.service.engine_process import EngineServer, engine_server
from embedding_runtime.service.inference import Inference, ranked
from embedding_runtime.service.queries import EmbedQuery, RerankQuery
from embedding_runtime.settings import ServeSettings
from tests.unit.runtime import made
from tests.unit.runtime.fakes import COMMIT

FIRST, SECOND, RERANKER = "org/first", "org/second", "org/reranker"

Check = Callable[[Inference, EngineServer], Awaitable[None]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made.cache(tmp_path, FIRST, COMMIT, made.write_embedder(tmp_path / "a"))
    made.cache(tmp_path, SECOND, COMMIT, made.write_embedder(tmp_path / "b"))
    made.cache(tmp_path, RERANKER, COMMIT, made.write_reranker(tmp_path / "c"))
    return tmp_path


@asynccontextmanager
async def _served(home: Path, **settings: object) -> AsyncIterator[tuple[Inference, EngineServer]]:
    values: dict[str, object] = {
        "hf_home": home,
        "hf_hub_offline": True,
        "default_embedding_model": FIRST,
        "ort_execution_provider": "cpu",
        "ort_num_threads": 1,
    }
    configured = ServeSettings.model_construct(**{**values, **settings})  # type: ignore[arg-type]
    path = home / "socket"
    server = engine_server(configured, Pulse.create(home / "pulse"), Gpu(nvml))
    inference = Inference(configured, str(path))
    tasks = [asyncio.create_task(server.serve(str(path))), asyncio.create_task(inference.run())]
    try:
        while inference.health().reason in ("EngineUnavailable", "Loading"):  # noqa: ASYNC110  other threads'
            await asyncio.sleep(0.005)
        yield inference, server
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.compute.stop()
        await asyncio.to_thread(server.compute.join, 10)


def _run(check: Check, home: Path, **settings: object) -> None:
    async def run() -> None:
        async with asyncio.timeout(30), _served(home, **settings) as (inference, server):
            await check(inference, server)

    asyncio.run(run())


def test_an_answer_says_how_long_each_stage_took(home: Path) -> None:
    async def check(inference: Inference, _: EngineServer) -> None:
        answer = await inference.embed(EmbedQuery(["red cat", "bird"]))
        np.testing.assert_allclose(
            answer.rows, [made.embedding("red cat"), made.embedding("bird")], atol=1e-6
        )
        assert (answer.card.id, answer.tokens) == (FIRST, 7)
        assert [stage.name for stage in answer.stages] == ["tokenize", "queue", "compute"]
        starts = [stage.started for stage in answer.stages]
        assert starts == sorted(starts)
        assert all(0 <= stage.seconds < 10 for stage in answer.stages)
        first = await inference.embed(EmbedQuery(["bird"], SECOND))
        again = await inference.embed(EmbedQuery(["bird"], SECOND))
        assert [stage.name for stage in first.stages] == ["load", "tokenize", "queue", "compute"]
        assert [stage.name for stage in again.stages] == ["tokenize", "queue", "compute"]

    _run(check, home)


def test_vectors_are_shaped_as_they_are_asked_for(home: Path) -> None:
    async def check(inference: Inference, _: EngineServer) -> None:
        ids = [made.CLS, *made.ids("red cat"), made.SEP]
        raw = made.table()[ids].mean(axis=0)
        answer = await inference.embed(EmbedQuery(["red cat"], normalize=False))
        np.testing.assert_allclose(answer.rows, [raw], rtol=1e-5)
        answer = await inference.embed(EmbedQuery(["red cat"], dimensions=2, untrained_dimensions=True))
        np.testing.assert_allclose(answer.rows, [raw[:2] / np.linalg.norm(raw[:2])], rtol=1e-5)
        answer = await inference.embed(EmbedQuery([], token_ids=[ids, ids[:2]]))
        np.testing.assert_allclose(answer.rows[0], made.embedding("red cat"), rtol=1e-5)
        assert (len(answer.rows), answer.tokens) == (2, 6)
        with pytest.raises(UntrainedDimensionsError):
            await inference.embed(EmbedQuery(["red cat"], dimensions=2))

    _run(check, home)


def test_documents_come_best_first_with_their_logits(home: Path) -> None:
    async def check(inference: Inference, _: EngineServer) -> None:
        documents = ["red", "dog runs", "quickly slowly"]
        answer = await inference.rerank(RerankQuery("cat", documents, RERANKER))
        logits = {each.index: each.logit for each in answer.ranked}
        np.testing.assert_allclose(
            [logits[n] for n in range(3)], [made.logit(text) for text in documents], rtol=1e-5
        )
        assert [each.index for each in answer.ranked] == sorted(range(3), key=lambda n: -logits[n])
        with pytest.raises(InputTooLongError, match=r"documents\.1"):
            await inference.rerank(RerankQuery("cat", ["red", "red " * 20], RERANKER, "never"))

    _run(check, home)


def test_a_request_that_is_late_for_an_unloaded_model_has_it_loaded_again(home: Path) -> None:
    async def check(inference: Inference, server: EngineServer) -> None:
        before = await inference.embed(EmbedQuery(["bird"], SECOND))
        for _ in range(5):
            while any(used.busy for used in server.compute.usage().values()):  # noqa: ASYNC110  a thread's
                await asyncio.sleep(0.001)
            # The engine lets go of it; this side has not heard of that yet.
            server.residents.tick()
            assert [card.id for card in server.residents.cards] == [FIRST]
            answer = await inference.embed(EmbedQuery(["bird"], SECOND))
            np.testing.assert_array_equal(answer.rows, before.rows)

    _run(check, home, model_idle_secs=0.0)


def test_who_cannot_wait_is_told_to_come_back(home: Path) -> None:
    async def check(inference: Inference, _: EngineServer) -> None:
        with pytest.raises(NotReadyError, match="org/second is still loading") as caught:
            await inference.embed(EmbedQuery(["bird"], SECOND))
        assert caught.value.retry_after
        while True:
            try:
                await inference.embed(EmbedQuery(["bird"], SECOND))
                break
            except NotReadyError:
                await asyncio.sleep(0.01)

    _run(check, home, model_load_timeout_secs=0)


def test_what_is_absent_is_unknown_and_a_configured_model_that_is_broken_failed(home: Path) -> None:
    (home / f"hub/models--org--first/snapshots/{COMMIT}/onnx/model.onnx").write_bytes(b"nonsense")

    async def check(inference: Inference, _: EngineServer) -> None:
        assert (inference.health().status, inference.health().reason) == ("load_failed", "CorruptModel")
        with pytest.raises(LoadFailedError, match="org/first could not be loaded"):
            await inference.embed(EmbedQuery(["bird"]))
        with pytest.raises(UnknownModelError, match=r"v9 is not in the cache.*the nearest is 'org/second'"):
            await inference.embed(EmbedQuery(["bird"], f"{SECOND}@v9"))
        assert inference.label(SECOND, "embed") == "unknown"
        await inference.embed(EmbedQuery(["bird"], SECOND))
        assert inference.label(f"{SECOND}@main", "embed") == SECOND
        listed = {each.name: each.state for each in await inference.models()}
        assert listed == {FIRST: "load_failed", SECOND: "ready", RERANKER: "available"}

    _run(check, home)


def test_too_many_inputs_are_refused_before_anything_is_loaded(home: Path) -> None:
    async def check(inference: Inference, server: EngineServer) -> None:
        with pytest.raises(TooManyInputsError, match="documents has 3 entries; one request may hold 2"):
            await inference.rerank(RerankQuery("q", ["a"] * 3, RERANKER))
        assert [model.name for model in server.residents.state.models] == [FIRST]

    _run(check, home, max_inputs_per_request=2)


def test_without_an_engine_a_request_fails_at_once(home: Path) -> None:
    async def check() -> None:
        inference = Inference(ServeSettings.model_construct(hf_home=home), str(home / "socket"))
        assert inference.health().reason == "EngineUnavailable"
        with pytest.raises(EngineUnavailableError):
            await inference.embed(EmbedQuery(["bird"]))
        assert [each.state for each in await inference.models()][:1] == ["available"]

    asyncio.run(check())


def test_scores_are_sigmoids_best_first_and_ties_keep_their_order() -> None:
    found = ranked(np.array([0, -800, 2, 0, 800], dtype=np.float32))
    assert [each.index for each in found] == [4, 2, 0, 3, 1]
    np.testing.assert_allclose(
        [each.score for each in found], [1, 1 / (1 + np.exp(-2)), 0.5, 0.5, 0], atol=1e-12
    )


def test_tokens_are_told_whichever_task_the_model_does(home: Path) -> None:
    async def check(inference: Inference, server: EngineServer) -> None:
        for name in (None, SECOND, RERANKER):
            (found,) = await inference.pieces(name, ["red cat"], special=False)
            assert [piece.text for piece in found] == ["red", "cat"]
            assert await inference.decoded(name, [[piece.id for piece in found]]) == ["red cat"]
        with pytest.raises(TooManyInputsError):
            await inference.pieces(None, ["red"] * 3000)

    _run(check, home)


def test_the_vectors_of_a_text_s_tokens_come_where_they_are_wanted(home: Path) -> None:
    async def check(inference: Inference, server: EngineServer) -> None:
        found = await inference.embed(EmbedQuery(["red cat", "dog"], outputs=("tokens",)))
        for rows, text in zip(found.token_rows, ["red cat", "dog"], strict=True):
            expected = made.table()[[made.CLS, *made.ids(text), made.SEP]]
            np.testing.assert_allclose(rows, expected, atol=1e-6)
        assert found.rows.shape == (2, 0)
        found = await inference.embed(EmbedQuery(["red cat"], outputs=("dense", "tokens")))
        np.testing.assert_allclose(found.rows[0], made.embedding("red cat"), atol=1e-6)
        assert len(found.token_rows) == 1
        assert (await inference.embed(EmbedQuery(["red"]))).token_rows == ()

    _run(check, home)
