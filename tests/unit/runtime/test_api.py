"""The HTTP surface over a fake engine: bodies, statuses, the shape of every error."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import httpx
import numpy as np
import pytest

from embedding_runtime import errors
from embedding_runtime.api.app import create_app
from embedding_runtime.service.answers import Embeddings, Health, Listed, Ranked, Ranking
from embedding_runtime.service.catalogue import Catalogue
from embedding_runtime.service.inference import Inference
from embedding_runtime.settings import ServeSettings, Task
from tests.unit.runtime.fakes import EMBEDDER, RERANKER, card

READY = Health("ready", "", "", (card(EMBEDDER), card(RERANKER)))


class FakeInference:
    """Answers like Inference, without an engine."""

    catalogue = Catalogue([EMBEDDER, RERANKER])

    def __init__(self, failure: Exception | None = None, health: Health = READY) -> None:
        self.failure, self._health = failure, health
        self.cancelled = False
        self.started = asyncio.Event()

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def embed(self, texts: Sequence[str], model: str | None, **_: Any) -> Embeddings:
        if self.failure:
            raise self.failure
        rows = (np.arange(4 * len(texts)).reshape(-1, 4) / 8).astype(np.float32)
        return Embeddings(card(EMBEDDER), rows, 3 * len(texts))

    async def rerank(self, query: str, documents: Sequence[str], model: str | None, **_: Any) -> Ranking:
        self.started.set()
        if query == "never":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        order = sorted(range(len(documents)), reverse=True)
        return Ranking(card(RERANKER), [Ranked(index, 1 / (2 + n), -n) for n, index in enumerate(order)], 9)

    def health(self) -> Health:
        return self._health

    def label(self, name: str | None, task: Task) -> str:
        return self.catalogue.label(name, task)

    async def models(self) -> list[Listed]:
        return [Listed(each.id, (), each.recipe.task, "ready", True, card=each) for each in READY.cards]


def _ask(method: str, path: str, inference: FakeInference | None = None, **request: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        app = create_app(
            ServeSettings.model_construct(max_request_bytes=2000),
            cast("Inference", inference or FakeInference()),
        )
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **request)

    return asyncio.run(ask())


def test_a_list_is_embedded_in_order() -> None:
    answer = _ask("POST", "/embed", json={"input": ["a", "b"], "model": "org/embedder"})
    assert answer.status_code == 200
    assert answer.headers["X-Model-Fingerprint"] == "f" * 64
    assert answer.json() == {
        "embeddings": [[0, 0.125, 0.25, 0.375], [0.5, 0.625, 0.75, 0.875]],
        "model": "org/embedder",
        "usage": {"total_tokens": 6},
    }


def test_a_string_is_a_list_of_one() -> None:
    assert len(_ask("POST", "/embed", json={"input": "a"}).json()["embeddings"]) == 1


def test_documents_come_best_first_with_their_texts() -> None:
    answer = _ask("POST", "/rerank", json={"query": "q", "documents": ["a", "b", "c"], "top_n": 2})
    assert answer.json() == {
        "results": [
            {"index": 2, "score": 0.5, "text": "c"},
            {"index": 1, "score": pytest.approx(1 / 3), "text": "b"},
        ],
        "model": "org/reranker",
        "usage": {"total_tokens": 9},
    }


def test_documents_can_be_left_out_and_top_n_may_exceed_them() -> None:
    body = {"query": "q", "documents": ["a"], "return_documents": False, "top_n": 10}
    assert _ask("POST", "/rerank", json=body).json()["results"] == [{"index": 0, "score": 0.5}]


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/embed", "{", 400, None),
        ("/embed", "", 422, None),
        ("/embed", "[]", 422, None),
        ("/embed", "{}", 422, "input"),
        ("/embed", '{"input": []}', 422, "input"),
        ("/embed", '{"input": null}', 422, "input"),
        ("/embed", '{"input": 7}', 422, "input"),
        ("/embed", '{"input": ["a", 7]}', 422, "input.1"),
        ("/embed", '{"input": ["a"], "model": 7}', 422, "model"),
        ("/rerank", '{"documents": ["a"]}', 422, "query"),
        ("/rerank", '{"query": "q"}', 422, "documents"),
        ("/rerank", '{"query": "q", "documents": []}', 422, "documents"),
        ("/rerank", '{"query": "q", "documents": "a"}', 422, "documents"),
        ("/rerank", '{"query": "q", "documents": ["a"], "top_n": 0}', 422, "top_n"),
        ("/rerank", '{"query": "q", "documents": ["a"], "top_n": "2"}', 422, "top_n"),
    ],
)
def test_what_is_wrong_with_a_request_is_told(path: str, body: str, status: int, param: str | None) -> None:
    answer = _ask("POST", path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param


@pytest.mark.parametrize(
    ("failure", "status", "headers"),
    [
        (errors.UnknownModelError("no"), 404, {}),
        (errors.WrongTaskError("no"), 400, {}),
        (errors.TooManyInputsError("no"), 413, {}),
        (errors.QueryTooLongError("no"), 413, {}),
        (errors.OverloadedError("full", retry_after=2.2), 429, {"retry-after": "3"}),
        (errors.NotReadyError("loading", retry_after=1), 503, {"retry-after": "1"}),
        (errors.EngineUnavailableError("gone", retry_after=0.1), 503, {"retry-after": "1"}),
        (errors.LoadFailedError("broken"), 503, {"x-should-retry": "false"}),
        (errors.CorruptModelError("tokenizer.json cannot be read"), 503, {"x-should-retry": "false"}),
        (errors.InternalError("bug"), 500, {}),
        (ZeroDivisionError("secret detail"), 500, {}),
    ],
)
def test_each_failure_has_its_status(failure: Exception, status: int, headers: dict[str, str]) -> None:
    answer = _ask("POST", "/embed", FakeInference(failure), json={"input": "a"})
    assert answer.status_code == status
    assert headers.items() <= dict(answer.headers).items()
    assert "secret detail" not in answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_body_over_the_limit_is_refused_stated_or_streamed() -> None:
    assert _ask("POST", "/embed", json={"input": "a" * 3000}).status_code == 413

    async def chunks() -> Any:
        for _ in range(30):
            yield b"a" * 100

    answer = _ask("POST", "/embed", content=chunks(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "RequestTooLarge"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/embed", 405)])
def test_what_is_not_there_answers_in_the_same_shape(method: str, path: str, status: int) -> None:
    answer = _ask(method, path)
    assert answer.status_code == status
    assert "message" in answer.json()["error"]


def test_models_are_listed_by_task() -> None:
    assert _ask("GET", "/models").json() == {
        "embedding_models": ["org/embedder"],
        "reranking_models": ["org/reranker"],
    }


def test_ready_describes_what_is_served() -> None:
    answer = _ask("GET", "/health/ready")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ready"
    assert answer.json()["models"][0]["fingerprint"] == "f" * 64


def test_not_ready_says_why_and_liveness_does_not_care() -> None:
    health = Health("load_failed", "FingerprintMismatch", "expected a, found b", ())
    answer = _ask("GET", "/health/ready", FakeInference(health=health))
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "load_failed",
        "reason": "FingerprintMismatch",
        "message": "expected a, found b",
    }
    assert _ask("GET", "/health/live", FakeInference(health=health)).status_code == 200


def test_the_openapi_document_has_the_documented_examples() -> None:
    document = _ask("GET", "/openapi.json").json()
    assert {"/embed", "/rerank", "/models", "/health/live", "/health/ready", "/metrics"} <= set(
        document["paths"]
    )
    assert "examples" in document["components"]["schemas"]["EmbedRequest"]


def test_the_work_of_a_client_that_left_is_cancelled() -> None:
    async def leave() -> bool:
        inference = FakeInference()
        app = create_app(ServeSettings.model_construct(max_request_bytes=2000), cast("Inference", inference))
        body = b'{"query": "never", "documents": ["a"]}'
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop(0)
            await inference.started.wait()
            return {"type": "http.disconnect"}

        async def send(_: Any) -> None: ...

        scope = {
            "type": "http", "method": "POST", "path": "/rerank", "raw_path": b"/rerank", "query_string": b"",
            "headers": [(b"content-type", b"application/json")], "http_version": "1.1", "scheme": "http",
            "client": ("test", 1), "server": ("test", 80), "root_path": "",
        }  # fmt: skip
        async with asyncio.timeout(5):
            await app(scope, receive, send)
        await asyncio.sleep(0)
        return inference.cancelled

    assert asyncio.run(leave())
