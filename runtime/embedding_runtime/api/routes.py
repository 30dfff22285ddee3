"""The documented inference endpoints, /embed and /rerank: from a checked request to its answer."""

import time
from collections.abc import Callable
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from embedding_runtime.api.answers import EmbedAnswer, RerankAnswer
from embedding_runtime.api.documented import binary_content, failures, request_headers, success_headers
from embedding_runtime.api.exchange import Exchange, exchange_of
from embedding_runtime.api.inference_route import Endpoint, InferenceRoute
from embedding_runtime.api.negotiation import media_type
from embedding_runtime.api.priority import asked_priority
from embedding_runtime.api.responses import encoded_response
from embedding_runtime.api.schemas import EmbedRequest, RerankRequest
from embedding_runtime.api.vectors import FORMS, JSON, Form, sparse_bytes
from embedding_runtime.service.answers import Stage
from embedding_runtime.service.inference import Inference
from embedding_runtime.service.queries import EmbedQuery, RerankQuery
from embedding_runtime.service.state import ModelCard

# What a result of /rerank takes beside its text.
_RESULT_BYTES = 64


async def embed(body: EmbedRequest, request: Request) -> Response:
    """One vector per input text, in the order of the inputs.

    The header `X-Request-Timeout-Ms` bounds the time: past it the answer is 504, and the work is dropped.
    `Accept` chooses the form of the answer: JSON, the bare numbers, or an Arrow stream.
    """
    inference, exchange = _parts(request)
    exchange.label = inference.label(body.model, "embed")
    query = EmbedQuery(
        body.texts,
        body.model,
        truncate="model" if body.truncate else "never",
        prompt_name=body.prompt_name,
        input_type=body.input_type,
        outputs=tuple(body.outputs),
        priority=asked_priority(exchange.headers),
    )
    found = await inference.embed(query)
    exchange.label = inference.label(body.model, "embed")  # a first use has loaded the model meanwhile
    exchange.items, exchange.tokens = len(query.texts), found.tokens
    exchange.stages += found.stages
    form = JSON if found.sparse else media_type(exchange.headers.get(b"accept", b""), FORMS)
    return await _encoded(
        exchange,
        found.card,
        lambda: form.encode(found),
        size=found.rows.size * form.number_bytes + sparse_bytes(found),
        form=form,
    )


async def rerank(body: RerankRequest, request: Request) -> Response:
    """The documents, best first, each with a score between 0 and 1.

    The header `X-Request-Timeout-Ms` bounds the time: past it the answer is 504, and the work is dropped.
    """
    inference, exchange = _parts(request)
    exchange.label = inference.label(body.model, "rerank")
    query = RerankQuery(
        body.query,
        body.documents,
        body.model,
        truncate="model" if body.truncate else "never",
        priority=asked_priority(exchange.headers),
    )
    found = await inference.rerank(query)
    exchange.label = inference.label(body.model, "rerank")
    results: list[dict[str, Any]] = [
        {"index": document.index, "score": document.logit if body.raw_scores else document.score}
        for document in found.ranked[: body.top_n]
    ]
    if body.return_documents:
        for result in results:
            result["text"] = body.documents[result["index"]]
    content = {"results": results, "model": found.card.id, "usage": {"total_tokens": found.tokens}}
    exchange.items, exchange.tokens = len(body.documents), found.tokens
    exchange.stages += found.stages
    size = _RESULT_BYTES * len(results) + sum(len(result.get("text", "")) for result in results)
    return await _encoded(exchange, found.card, lambda: orjson.dumps(content), size=size, form=JSON)


def add_inference(app: FastAPI) -> None:
    """Add the endpoints to an app."""
    _add(app, "/embed", embed, EmbedAnswer, "A vector for each text", binary_content(FORMS.values()))
    _add(app, "/rerank", rerank, RerankAnswer, "Documents, best first for a query", {})


def _add(
    app: FastAPI, path: str, endpoint: Endpoint, answer: type, summary: str, content: dict[str, Any]
) -> None:
    """`content`: the forms of the answer beside JSON, as the document has them."""
    headers = success_headers("X-Request-Id", "X-Model", "X-Model-Fingerprint", "Server-Timing")
    app.router.add_api_route(
        path,
        endpoint,
        methods=["POST"],
        summary=summary,
        response_model=answer,
        responses={200: {"headers": headers, "content": content}, **failures()},
        openapi_extra=request_headers(),
        route_class_override=InferenceRoute,
    )


def _parts(request: Request) -> tuple[Inference, Exchange]:
    return request.app.state.inference, exchange_of(request.scope)


async def _encoded(
    exchange: Exchange, card: ModelCard, make: Callable[[], bytes], *, size: int, form: Form
) -> Response:
    """The answer in a form; `size`: roughly how many bytes it will have."""
    began, started = time.time(), time.perf_counter()
    response = await encoded_response(
        make,
        size=size,
        media_type=form.media_type,
        accepted=exchange.headers.get(b"accept-encoding", b"") if form.compressible else None,
        headers={"X-Model": card.id, "X-Model-Fingerprint": card.fingerprint},
    )
    exchange.stages.append(Stage("encode", began, time.perf_counter() - started))
    return response
