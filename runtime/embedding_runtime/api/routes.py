"""The documented endpoints: /embed, /rerank, /models, /health/live, /health/ready, /metrics."""

import asyncio
import os
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from prometheus_client import Counter, Histogram
from starlette.responses import Response

from embedding_runtime import metrics
from embedding_runtime.api.responses import json_response
from embedding_runtime.api.schemas import EmbedRequest, RerankRequest, error_schema
from embedding_runtime.errors import ClientLeftError
from embedding_runtime.service.inference import Inference
from embedding_runtime.service.state import ModelCard

_T = TypeVar("_T")

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": error_schema()}}}
    for status, text in (
        (400, "Malformed, or a model of another task"),
        (404, "The model is not served here"),
        (413, "Too many inputs, too many bytes, or a query too long"),
        (422, "A field is missing or of the wrong type"),
        (429, "The queue is full"),
        (503, "Loading, failed or restarting"),
    )
}

router = APIRouter()


@router.post("/embed", responses=_ERRORS)
async def embed(body: EmbedRequest, request: Request) -> Response:
    """One vector per input text, in the order of the inputs."""
    inference = _inference(request)
    label = inference.label(body.model, "embed")
    with _measured(metrics.EMBED_REQUESTS, metrics.EMBED_SECONDS, label):
        answer = await _while_connected(request, inference.embed(body.texts, body.model))
        metrics.EMBED_ITEMS.labels(label).inc(len(answer.rows))
        content = {
            "embeddings": answer.rows,
            "model": answer.card.id,
            "usage": {"total_tokens": answer.tokens},
        }
        return json_response(content, headers=_model_headers(answer.card))


@router.post("/rerank", responses=_ERRORS)
async def rerank(body: RerankRequest, request: Request) -> Response:
    """The documents, best first, each with a score between 0 and 1."""
    inference = _inference(request)
    label = inference.label(body.model, "rerank")
    with _measured(metrics.RERANK_REQUESTS, metrics.RERANK_SECONDS, label):
        answer = await _while_connected(request, inference.rerank(body.query, body.documents, body.model))
        results: list[dict[str, Any]] = [
            {"index": ranked.index, "score": ranked.score} for ranked in answer.ranked[: body.top_n]
        ]
        if body.return_documents:
            for result in results:
                result["text"] = body.documents[result["index"]]
        content = {"results": results, "model": answer.card.id, "usage": {"total_tokens": answer.tokens}}
        return json_response(content, headers=_model_headers(answer.card))


@router.get("/models")
async def models(request: Request) -> Response:
    """The models that a request may name now."""
    cards = _inference(request).health().cards
    ids = {task: [card.id for card in cards if card.recipe.task == task] for task in ("embed", "rerank")}
    return json_response({"embedding_models": ids["embed"], "reranking_models": ids["rerank"]})


@router.get("/health/live")
async def live() -> Response:
    """200 for as long as this process answers."""
    return json_response({"status": "alive"})


@router.get("/health/ready", responses={503: {"description": "Not ready, with the reason"}})
async def ready(request: Request) -> Response:
    """200 when every default model is loaded and has run; else 503 with the reason."""
    health = _inference(request).health()
    if health.status != "ready":
        content = {"status": health.status, "reason": health.reason, "message": health.message}
        return json_response(content, status=503)
    return json_response({"status": "ready", "models": [_described(card) for card in health.cards]})


@router.get("/metrics")
async def exposition() -> Response:
    """Metrics of all processes, in the Prometheus text format."""
    directory = os.environ[metrics.DIRECTORY_VARIABLE]
    text = await asyncio.to_thread(metrics.scrape, directory)
    return Response(text, media_type=metrics.CONTENT_TYPE)


def _inference(request: Request) -> Inference:
    inference: Inference = request.app.state.inference
    return inference


def _model_headers(card: ModelCard) -> dict[str, str]:
    return {"X-Model-Fingerprint": card.fingerprint}


def _described(card: ModelCard) -> dict[str, Any]:
    return {
        "model": card.id,
        "revision": card.commit,
        "task": card.recipe.task,
        "fingerprint": card.fingerprint,
        "provider": card.provider,
        "precision": card.precision,
        "dimensions": card.dimensions,
        "max_tokens": card.recipe.max_tokens,
    }


@contextmanager
def _measured(requests: Counter, seconds: Histogram, label: str) -> Iterator[None]:
    """Count the request, and its time when it succeeds."""
    started = time.perf_counter()
    try:
        yield
    except BaseException:
        requests.labels(label, "failure").inc()
        raise
    requests.labels(label, "success").inc()
    seconds.labels(label).observe(time.perf_counter() - started)


async def _while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`, which is cancelled when the client goes away.

    Raises ClientLeftError then.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeftError("the client closed the connection")
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
