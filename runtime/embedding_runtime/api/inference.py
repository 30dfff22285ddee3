"""What the inference endpoints of all dialects share: from a query to its result, to an encoded answer, and
how an endpoint is added to an app.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from embedding_runtime.api.bodies import MANY_VALUES
from embedding_runtime.api.documented import failures, request_headers, success_headers
from embedding_runtime.api.error_form import DOCUMENTED, ErrorForm
from embedding_runtime.api.exchange import Exchange, exchange_of
from embedding_runtime.api.inference_route import Endpoint, InferenceRoute, Variant
from embedding_runtime.api.responses import encoded_response
from embedding_runtime.api.vectors import JSON, Form
from embedding_runtime.service.answers import Embeddings, Ranking, Stage
from embedding_runtime.service.inference import Inference
from embedding_runtime.service.queries import EmbedQuery, RerankQuery
from embedding_runtime.service.state import ModelCard


def inference_of(request: Request) -> Inference:
    """The server's view that the request's app has."""
    inference: Inference = request.app.state.inference
    return inference


async def embedded(request: Request, query: EmbedQuery) -> Embeddings:
    """The vectors, noted in the request's exchange. Raises as Inference.embed."""
    inference, exchange = inference_of(request), exchange_of(request.scope)
    exchange.label = inference.label(query.model, "embed")
    found = await inference.embed(query)
    exchange.label = inference.label(query.model, "embed")  # a first use has loaded the model meanwhile
    _note(exchange, len(query.token_ids or query.texts), found)
    return found


async def ranked(request: Request, query: RerankQuery) -> Ranking:
    """The ranking, noted in the request's exchange. Raises as Inference.rerank."""
    inference, exchange = inference_of(request), exchange_of(request.scope)
    exchange.label = inference.label(query.model, "rerank")
    found = await inference.rerank(query)
    exchange.label = inference.label(query.model, "rerank")
    _note(exchange, len(query.documents), found)
    return found


def _note(exchange: Exchange, items: int, found: Embeddings | Ranking) -> None:
    exchange.items += items
    exchange.tokens += found.tokens
    exchange.stages += found.stages


async def encoded(
    request: Request, card: ModelCard, make: Callable[[], bytes], *, size: int, form: Form = JSON
) -> Response:
    """The answer in a form; `size`: roughly how many bytes it will have."""
    exchange = exchange_of(request.scope)
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


def add_endpoint(
    app: FastAPI,
    path: str,
    endpoint: Endpoint,
    answer: Any,
    summary: str,
    *,
    errors: ErrorForm = DOCUMENTED,
    content: Mapping[str, Any] | None = None,
    own_key: str = "",
    variants: Sequence[Variant] = (),
    most_values: int = MANY_VALUES,
    computed: bool = True,
) -> None:
    """Answer POST requests at `path`. `content`: the forms of the answer beside JSON, as the document has
    them; `computed`: whether a model runs for it; the others as InferenceRoute has them.
    """
    model = ("X-Model", "X-Model-Fingerprint") if computed else ()
    headers = success_headers("X-Request-Id", *model, "Server-Timing")
    route = InferenceRoute(
        path,
        endpoint,
        own_key=own_key,
        variants=variants,
        most_values=most_values,
        methods=["POST"],
        summary=summary,
        response_model=answer,
        responses={200: {"headers": headers, "content": dict(content or {})}, **failures(errors)},
        openapi_extra=request_headers(queued=computed),
    )
    app.router.routes.append(route)
