"""The documented inference endpoints, /embed and /rerank: from a checked request to its answer."""

import time
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from embedding_runtime import metrics
from embedding_runtime.api.answers import EmbedAnswer, RerankAnswer
from embedding_runtime.api.documented import failures, request_headers, success_headers
from embedding_runtime.api.exchange import Exchange, exchange_of
from embedding_runtime.api.inference_route import Endpoint, InferenceRoute
from embedding_runtime.api.priority import asked_priority
from embedding_runtime.api.responses import json_response
from embedding_runtime.api.schemas import EmbedRequest, RerankRequest
from embedding_runtime.service.answers import Stage
from embedding_runtime.service.inference import Inference
from embedding_runtime.service.state import ModelCard


async def embed(body: EmbedRequest, request: Request) -> Response:
    """One vector per input text, in the order of the inputs.

    The header `X-Request-Timeout-Ms` bounds the time: past it the answer is 504, and the work is dropped.
    """
    inference, exchange = _parts(request)
    exchange.label = inference.label(body.model, "embed")
    texts = body.texts
    found = await inference.embed(
        texts,
        body.model,
        truncate=body.truncate,
        prompt_name=body.prompt_name,
        input_type=body.input_type,
        priority=asked_priority(exchange.headers),
    )
    exchange.label = inference.label(body.model, "embed")  # a first use has loaded the model meanwhile
    metrics.EMBED_ITEMS.labels(exchange.label).inc(len(texts))
    metrics.EMBED_REQUEST_ITEMS.labels(exchange.label).observe(len(texts))
    content = {
        "embeddings": found.rows,
        "model": found.card.id,
        "usage": {"total_tokens": found.tokens},
    }
    return _encoded(exchange, content, found.card, len(texts), found.tokens, found.stages)


async def rerank(body: RerankRequest, request: Request) -> Response:
    """The documents, best first, each with a score between 0 and 1.

    The header `X-Request-Timeout-Ms` bounds the time: past it the answer is 504, and the work is dropped.
    """
    inference, exchange = _parts(request)
    exchange.label = inference.label(body.model, "rerank")
    found = await inference.rerank(
        body.query,
        body.documents,
        body.model,
        truncate=body.truncate,
        priority=asked_priority(exchange.headers),
    )
    exchange.label = inference.label(body.model, "rerank")
    results: list[dict[str, Any]] = [
        {"index": document.index, "score": document.logit if body.raw_scores else document.score}
        for document in found.ranked[: body.top_n]
    ]
    if body.return_documents:
        for result in results:
            result["text"] = body.documents[result["index"]]
    content = {"results": results, "model": found.card.id, "usage": {"total_tokens": found.tokens}}
    return _encoded(exchange, content, found.card, len(body.documents), found.tokens, found.stages)


def add_inference(app: FastAPI) -> None:
    """Add the endpoints to an app."""
    _add(app, "/embed", embed, EmbedAnswer, "A vector for each text")
    _add(app, "/rerank", rerank, RerankAnswer, "Documents, best first for a query")


def _add(app: FastAPI, path: str, endpoint: Endpoint, answer: type, summary: str) -> None:
    headers = success_headers("X-Request-Id", "X-Model-Fingerprint", "Server-Timing")
    app.router.add_api_route(
        path,
        endpoint,
        methods=["POST"],
        summary=summary,
        response_model=answer,
        responses={200: {"headers": headers}, **failures()},
        openapi_extra=request_headers(),
        route_class_override=InferenceRoute,
    )


def _parts(request: Request) -> tuple[Inference, Exchange]:
    return request.app.state.inference, exchange_of(request.scope)


def _encoded(
    exchange: Exchange, content: object, card: ModelCard, items: int, tokens: int, stages: Iterable[Stage]
) -> Response:
    """The answer, and what is known of it in the exchange."""
    began, started = time.time(), time.perf_counter()
    response = json_response(content, headers={"X-Model-Fingerprint": card.fingerprint})
    exchange.items, exchange.tokens = items, tokens
    exchange.stages += stages
    exchange.stages.append(Stage("encode", began, time.perf_counter() - started))
    return response
