"""OpenAI's dialect: /v1/embeddings, /v1/models and the models below it."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, Field, StrictInt, StrictStr
from starlette.requests import Request
from starlette.responses import Response

from embedding_runtime.api.dialects.errors import OPENAI
from embedding_runtime.api.dialects.quantisation import BASE64_BYTES, Float32, as_base64
from embedding_runtime.api.dialects.request import DialectRequest, Dimensions, Model, Texts, Untrained, Unused
from embedding_runtime.api.dialects.token_ids import meant
from embedding_runtime.api.error_form import DOCUMENTED
from embedding_runtime.api.exchange import exchange_of
from embedding_runtime.api.inference import add_endpoint, embedded, encoded, inference_of
from embedding_runtime.api.inference_route import Variant
from embedding_runtime.api.priority import asked_priority
from embedding_runtime.api.responses import json_response
from embedding_runtime.api.vectors import JSON_BYTES
from embedding_runtime.errors import UnknownModelError
from embedding_runtime.service.answers import Embeddings
from embedding_runtime.service.queries import EmbedQuery

Ids = Annotated[list[StrictInt], Field(min_length=1, fail_fast=True)]

# orjson holds Python's lock: so many numbers, a millisecond, at a time, and others get their turn between.
_NUMBERS_AT_A_TIME = 32_768
# A list of token ids has as many values as its text has tokens.
_MOST_VALUES = 1_048_576


class OpenAIEmbeddings(DialectRequest):
    """Texts to embed, or lists of token ids."""

    input: Annotated[
        StrictStr | Texts | Ids | Annotated[list[Ids], Field(min_length=1, fail_fast=True)],
        Field(description="A text, texts, a list of token ids, or lists of them (`OPENAI_TOKEN_IDS`)."),
    ]
    model: Model = None
    encoding_format: Annotated[
        Literal["float", "base64"] | None,
        Field(description="`base64`: of the vector's little-endian float32 numbers."),
    ] = None
    dimensions: Dimensions = None
    allow_untrained_dimensions: Untrained = False
    user: Unused = None
    priority: Unused = None


class OpenAIVector(BaseModel):
    """The vector of one input; a string where base64 was asked for."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class OpenAIUsage(BaseModel):
    """Tokens that went through the model."""

    prompt_tokens: int
    total_tokens: int


class OpenAIVectors(BaseModel):
    """One vector for each input, in their order."""

    object: Literal["list"]
    data: list[OpenAIVector]
    model: str
    usage: OpenAIUsage


class OpenAIModel(BaseModel):
    """A name that a request may use."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class OpenAIModels(BaseModel):
    """All of them."""

    object: Literal["list"]
    data: list[OpenAIModel]


async def embeddings(body: OpenAIEmbeddings, request: Request) -> Response:
    """One vector for each input, as OpenAI's API answers; always of length 1."""
    texts, ids = _inputs(body.input)
    if ids:
        texts, ids = await asyncio.to_thread(meant, ids, request.app.state.settings)
    query = EmbedQuery(
        texts,
        body.model,
        normalize=True,
        dimensions=body.dimensions,
        untrained_dimensions=body.allow_untrained_dimensions,
        token_ids=ids,
        priority=asked_priority(exchange_of(request.scope).headers),
    )
    found = await embedded(request, query)
    if body.encoding_format == "base64":
        return await written(request, found, as_base64, BASE64_BYTES)
    return await written(request, found, lambda row: row, JSON_BYTES)


async def written(
    request: Request, found: Embeddings, vector: Callable[[Float32], Any], number_bytes: int
) -> Response:
    """The answer with what `vector` makes of each row, where a number takes so many bytes."""
    size = found.rows.size * number_bytes
    return await encoded(request, found.card, lambda: b"".join(_parts(found, vector)), size=size)


def _parts(found: Embeddings, vector: Callable[[Float32], Any]) -> Iterator[bytes]:
    yield b'{"object":"list","data":['
    step = max(1, _NUMBERS_AT_A_TIME // found.rows.shape[1])
    for start in range(0, len(found.rows), step):
        some = [
            {"object": "embedding", "index": index, "embedding": vector(row)}
            for index, row in enumerate(found.rows[start : start + step], start)
        ]
        yield b"," if start else b""
        yield orjson.dumps(some, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
    usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    yield b"]," + orjson.dumps({"model": found.card.id, "usage": usage})[1:]


def _inputs(given: Any) -> tuple[Sequence[str], Sequence[Sequence[int]]]:
    """The texts or the lists of ids; the other is empty."""
    if isinstance(given, str):
        return [given], []
    if isinstance(given[0], str):
        return given, []
    return [], [given] if isinstance(given[0], int) else given


_models = APIRouter()


@_models.get("/v1/models", response_model=OpenAIModels, summary="What may be named, as OpenAI lists it")
async def models(request: Request) -> Response:
    """Every name that a request may use now, served names too."""
    return json_response({"object": "list", "data": [_model(name) for name in await _names(request)]})


@_models.get(
    "/v1/models/{name:path}",
    response_model=OpenAIModel,
    responses={404: {"description": "No such model", "model": DOCUMENTED.answer}},
    summary="One of them",
)
async def model(request: Request, name: str) -> Response:
    """The model of this name; a slash in it may be written as %2F."""
    if name not in await _names(request):
        raise UnknownModelError(
            f"the model {name[:100]!r} is not served here; GET /v1/models lists what is", param="model"
        )
    return json_response(_model(name))


async def _names(request: Request) -> list[str]:
    listed = await inference_of(request).models()
    return [name for model in listed for name in (model.name, *model.served_names)]


def _model(name: str) -> dict[str, Any]:
    owner = name.rpartition("/")[0] or "library"
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}


def add_openai(app: FastAPI, variants: Sequence[Variant]) -> None:
    """Add the endpoints to an app; `variants`: who else posts to /v1/embeddings."""
    add_endpoint(
        app,
        "/v1/embeddings",
        embeddings,
        OpenAIVectors,
        "A vector for each input, as OpenAI answers",
        errors=OPENAI,
        own_key="input",
        variants=variants,
        most_values=_MOST_VALUES,
    )
    app.include_router(_models)
