"""The documented inference endpoints, /embed and /rerank: from a checked request to its answer."""

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from embedding_runtime.api.answers import EmbedAnswer, RerankAnswer
from embedding_runtime.api.documented import binary_content
from embedding_runtime.api.exchange import exchange_of
from embedding_runtime.api.inference import add_endpoint, embedded, encoded, ranked
from embedding_runtime.api.inference_route import Variant
from embedding_runtime.api.negotiation import media_type
from embedding_runtime.api.priority import asked_priority
from embedding_runtime.api.schemas import EmbedRequest, RerankRequest
from embedding_runtime.api.vectors import FORMS, JSON, sparse_bytes
from embedding_runtime.service.queries import EmbedQuery, RerankQuery

# What a result of /rerank takes beside its text.
_RESULT_BYTES = 64


async def embed(body: EmbedRequest, request: Request) -> Response:
    """One vector per input text, in the order of the inputs.

    The header `X-Request-Timeout-Ms` bounds the time: past it the answer is 504, and the work is dropped.
    `Accept` chooses the form of the answer: JSON, the bare numbers, or an Arrow stream.
    """
    headers = exchange_of(request.scope).headers
    query = EmbedQuery(
        body.texts,
        body.model,
        truncate="model" if body.truncate else "never",
        prompt_name=body.prompt_name,
        input_type=body.input_type,
        outputs=tuple(body.outputs),
        priority=asked_priority(headers),
    )
    found = await embedded(request, query)
    form = JSON if found.sparse else media_type(headers.get(b"accept", b""), FORMS)
    size = found.rows.size * form.number_bytes + sparse_bytes(found)
    return await encoded(request, found.card, lambda: form.encode(found), size=size, form=form)


async def rerank(body: RerankRequest, request: Request) -> Response:
    """The documents, best first, each with a score between 0 and 1.

    The header `X-Request-Timeout-Ms` bounds the time: past it the answer is 504, and the work is dropped.
    """
    query = RerankQuery(
        body.query,
        body.documents,
        body.model,
        truncate="model" if body.truncate else "never",
        priority=asked_priority(exchange_of(request.scope).headers),
    )
    found = await ranked(request, query)
    results: list[dict[str, Any]] = [
        {"index": document.index, "score": document.logit if body.raw_scores else document.score}
        for document in found.ranked[: body.top_n]
    ]
    if body.return_documents:
        for result in results:
            result["text"] = body.documents[result["index"]]
    content = {"results": results, "model": found.card.id, "usage": {"total_tokens": found.tokens}}
    size = _RESULT_BYTES * len(results) + sum(len(result.get("text", "")) for result in results)
    return await encoded(request, found.card, lambda: orjson.dumps(content), size=size)


def add_inference(
    app: FastAPI, *, embed_variants: Sequence[Variant], rerank_variants: Sequence[Variant]
) -> None:
    """Add the endpoints to an app, with the other forms of requests that are sent to their paths."""
    add_endpoint(
        app,
        "/embed",
        embed,
        EmbedAnswer,
        "A vector for each text",
        content=binary_content(FORMS.values()),
        own_key="input",
        variants=embed_variants,
    )
    add_endpoint(
        app,
        "/rerank",
        rerank,
        RerankAnswer,
        "Documents, best first for a query",
        own_key="documents",
        variants=rerank_variants,
    )
