"""How the server is: /models, /health/live, /health/ready, /health/serving, /metrics."""

import asyncio
import os
from dataclasses import asdict
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from embedding_runtime import metrics
from embedding_runtime.api.answers import Alive, ErrorAnswer, ModelsAnswer, NotReady, Ready
from embedding_runtime.api.exchange import exchange_of
from embedding_runtime.api.life import Life
from embedding_runtime.api.responses import encoded_response, json_response
from embedding_runtime.service.answers import Listed
from embedding_runtime.service.inference import Inference
from embedding_runtime.service.state import ModelCard

_DRAINING = {
    "status": "draining",
    "reason": "Draining",
    "message": "the server is stopping; what it has accepted it still answers",
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No API key, or an unknown one", "model": ErrorAnswer},
    422: {"description": "A parameter is of the wrong type", "model": ErrorAnswer},
}

# What needs no API key where keys are set.
health = APIRouter()
models_list = APIRouter()
exposition = APIRouter()


@models_list.get("/models", response_model=ModelsAnswer, responses=_REFUSALS, summary="What may be named")
async def models(
    request: Request,
    detail: Annotated[bool, Query(description="Also the state of each model.")] = False,
) -> Response:
    """The names that a request may use now, by task; with `detail` what is known of each model."""
    listed = await _inference(request).models()
    content: dict[str, Any] = {"embedding_models": [], "reranking_models": []}
    arrays = {"embed": content["embedding_models"], "rerank": content["reranking_models"]}
    for model in listed:
        arrays[model.task] += [model.name, *model.served_names]
    if detail:
        content["models"] = [_detailed(model) for model in listed]
    return await encoded_response(
        lambda: orjson.dumps(content), size=0, media_type="application/json", accepted=_accepted(request)
    )


@health.get("/health/live", response_model=Alive, summary="Whether the server's processes answer")
async def live() -> Response:
    """200 for as long as this process answers, also while a model loads."""
    return json_response({"status": "alive"})


@health.get(
    "/health/ready",
    response_model=Ready,
    responses={503: {"description": "Not ready, with the reason", "model": NotReady}},
    summary="Whether every default model answers",
)
async def ready(request: Request) -> Response:
    """200 when every default model is loaded and has run; else 503 with the reason."""
    life: Life = request.app.state.life
    if life.draining:
        return json_response(_DRAINING, status=503)
    return _readiness(request)


@health.get(
    "/health/serving",
    response_model=Ready,
    responses={503: {"description": "Not ready, with the reason", "model": NotReady}},
    summary="Whether a request would be answered",
)
async def serving(request: Request) -> Response:
    """As /health/ready, but 200 also while the server drains, for as long as it accepts requests.

    For a Kubernetes readiness probe: a pod that has to go is not ready whatever it says, but where there is
    no other one it is sent requests for as long as it says this.
    """
    return _readiness(request)


def _readiness(request: Request) -> Response:
    health = _inference(request).health()
    if health.status != "ready":
        content = {"status": health.status, "reason": health.reason, "message": health.message}
        return json_response(content, status=503)
    return json_response({"status": "ready", "models": [_described(card) for card in health.cards]})


@exposition.get(
    "/metrics",
    summary="Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def scrape(request: Request) -> Response:
    """Metrics of all processes, in the Prometheus text format."""
    directory = os.environ[metrics.DIRECTORY_VARIABLE]
    text = await asyncio.to_thread(metrics.scrape, directory)
    return await encoded_response(
        lambda: text, size=len(text), media_type=metrics.CONTENT_TYPE, accepted=_accepted(request)
    )


def _inference(request: Request) -> Inference:
    inference: Inference = request.app.state.inference
    return inference


def _accepted(request: Request) -> bytes:
    return exchange_of(request.scope).headers.get(b"accept-encoding", b"")


def _described(card: ModelCard) -> dict[str, Any]:
    return {
        "model": card.id,
        "revision": card.commit,
        "task": card.recipe.task,
        "fingerprint": card.fingerprint,
        "provider": card.provider,
        "fallback": card.fallback,
        "precision": card.precision,
        "dimensions": card.dimensions,
        "max_tokens": card.recipe.max_tokens,
    }


def _detailed(model: Listed) -> dict[str, Any]:
    """The detail of a model; what only a loaded one has is None before."""
    card = model.card
    return {
        "model": model.name,
        "served_names": list(model.served_names),
        "task": model.task,
        "kind": card.recipe.kind if card else None,
        "state": model.state,
        "reason": model.reason,
        "message": model.message,
        "default": model.default,
        "dimensions": card.dimensions if card else None,
        "max_tokens": card.recipe.max_tokens if card else None,
        "revision": card.commit if card else None,
        "provider": card.provider if card else None,
        "fallback": card.fallback if card else None,
        "precision": card.precision if card else None,
        "prepared": card.prepared if card else None,
        "unprepared": card.unprepared if card else None,
        "unfused": card.unfused if card else None,
        "memory_bytes": model.memory_bytes,
        "source": asdict(model.source) if model.source else None,
        "fingerprint": card.fingerprint if card else None,
    }
