"""The HTTP side over a fake engine, asked in this process."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
from fastapi import FastAPI

from embedding_runtime.api.app import create_app
from embedding_runtime.api.life import Life
from embedding_runtime.model.recipe import Recipe
from embedding_runtime.service.answers import (
    Embeddings,
    Health,
    Listed,
    Piece,
    Ranked,
    Ranking,
    Source,
    Sparse,
    Stage,
)
from embedding_runtime.service.inference import Inference
from embedding_runtime.service.queries import EmbedQuery, RerankQuery
from embedding_runtime.service.state import ModelCard
from embedding_runtime.settings import ServeSettings, Task


def _card(name: str, task: Task) -> ModelCard:
    return ModelCard(
        id=name,
        commit="0123456789abcdef0123456789abcdef01234567",
        folder=Path("/nowhere"),
        recipe=Recipe(task=task, tokenizer="tokenizer.json", max_tokens=16, pad_id=0),
        precision="fp32",
        fingerprint="f" * 64,
        provider="cpu",
        unprepared="no room",
        unfused="1 of 6 GELU",
        dimensions=4 if task == "embed" else None,
    )


EMBEDDER, RERANKER = _card("org/embedder", "embed"), _card("org/reranker", "rerank")
READY = Health("ready", "", "", (EMBEDDER, RERANKER))
STAGES = (Stage("tokenize", 1.0, 0.001), Stage("queue", 1.1, 0.002), Stage("compute", 1.2, 0.003))
LISTED = (
    Listed("org/embedder", ("alias",), "embed", "ready", True, card=EMBEDDER, memory_bytes=7),
    Listed("org/reranker", (), "rerank", "ready", True, card=RERANKER, memory_bytes=8),
    Listed("org/other", (), "embed", "available", False, source=Source("org/export", "onnx/model.onnx")),
)


class FakeInference:
    """Answers like Inference, without an engine. The text or query `never` is never answered."""

    def __init__(self, failure: BaseException | None = None, health: Health = READY) -> None:
        self.failure, self._health = failure, health
        self.cancelled = False
        self.started = asyncio.Event()
        self.asked: EmbedQuery | RerankQuery | None = None

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def embed(self, query: EmbedQuery) -> Embeddings:
        await self._work(query.texts[0] if query.texts else "", query)
        count = len(query.texts or query.token_ids)
        rows = (np.arange(4 * count).reshape(-1, 4) / 8).astype(np.float32)
        if query.outputs == ("sparse",):
            each = Sparse(np.array([1, 7], dtype=np.int32), np.array([0.5, 0.25], dtype=np.float32))
            return Embeddings(EMBEDDER, rows[:, :0], 3 * count, STAGES, sparse=(each,) * count)
        token_rows = [np.stack([row, -row]) for row in rows] if "tokens" in query.outputs else []
        return Embeddings(EMBEDDER, rows, 3 * count, STAGES, token_rows=token_rows)

    async def rerank(self, query: RerankQuery) -> Ranking:
        await self._work(query.query, query)
        order = sorted(range(len(query.documents)), reverse=True)
        ranked = [Ranked(index, 1 / (2 + n), -float(n)) for n, index in enumerate(order)]
        return Ranking(RERANKER, ranked, 9, STAGES)

    async def pieces(
        self, name: str | None, texts: Sequence[str], *, prompt_name: str | None = None, special: bool = True
    ) -> list[list[Piece]]:
        around = [Piece(1, "[CLS]", True)] if special else []
        return [[*around, Piece(7, text, False, 0, len(text))] for text in texts]

    async def decoded(
        self, name: str | None, ids: Sequence[Sequence[int]], *, special: bool = False
    ) -> list[str]:
        return [" ".join(map(str, each)) + (" special" if special else "") for each in ids]

    async def _work(self, text: str, asked: EmbedQuery | RerankQuery) -> None:
        self.asked = asked
        self.started.set()
        if self.failure:
            raise self.failure
        if text == "never":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise

    def health(self) -> Health:
        return self._health

    def label(self, name: str | None, task: Task) -> str:
        default = {"embed": "org/embedder", "rerank": "org/reranker"}[task]
        return default if name in (None, default, "alias") else "unknown"

    async def models(self) -> list[Listed]:
        return list(LISTED)


def app(inference: FakeInference | None = None, life: Life | None = None, **settings: Any) -> FastAPI:
    """An application; `settings` by field name."""
    made = ServeSettings.model_construct(**{"max_request_bytes": 2000, **settings})
    return create_app(made, cast("Inference", inference or FakeInference()), life or Life())


def ask(
    method: str,
    path: str,
    inference: FakeInference | None = None,
    life: Life | None = None,
    settings: dict[str, Any] | None = None,
    **request: Any,
) -> httpx.Response:
    """The answer to one request."""

    async def asking() -> httpx.Response:
        transport = httpx.ASGITransport(app(inference, life, **(settings or {})))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **request)

    return asyncio.run(asking())


async def exchange(
    application: FastAPI,
    path: str,
    body: bytes,
    leaving: asyncio.Event,
    sending: Callable[[Any], None] = lambda message: None,
) -> list[Any]:
    """The ASGI messages of an answer to a client that leaves when `leaving` is set.

    `sending` gets each message when it is handed over to be sent.
    """
    messages: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        await leaving.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sending(message)
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"content-type", b"application/json")], "http_version": "1.1", "scheme": "http",
        "client": ("test", 1), "server": ("test", 80), "root_path": "",
    }  # fmt: skip
    async with asyncio.timeout(5):
        await application(scope, receive, send)
    return sent
