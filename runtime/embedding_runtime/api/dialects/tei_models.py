"""What text-embeddings-inference tells of its model: /tokenize, /decode, /info."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr
from starlette.requests import Request
from starlette.responses import Response

import embedding_runtime
from embedding_runtime.api.dialects.errors import TEI
from embedding_runtime.api.dialects.request import DialectRequest, Model, Texts
from embedding_runtime.api.exchange import exchange_of
from embedding_runtime.api.inference import add_endpoint, inference_of
from embedding_runtime.api.responses import encoded_response, json_response
from embedding_runtime.errors import NotReadyError
from embedding_runtime.service.answers import Piece
from embedding_runtime.service.state import ModelCard
from embedding_runtime.settings import ServeSettings

Ids = Annotated[list[StrictInt], Field(fail_fast=True)]

# What a token takes in JSON beside its text.
_PIECE_BYTES = 64


class TeiTokenize(DialectRequest):
    """Texts to split into tokens."""

    inputs: StrictStr | Texts
    add_special_tokens: Annotated[
        StrictBool, Field(description="With those that the model wants around a text.")
    ] = True
    prompt_name: Annotated[StrictStr | None, Field(description="Which prompt goes in front.")] = None
    model: Model = None


class TeiDecode(DialectRequest):
    """Token ids to make text of."""

    ids: Annotated[
        Ids | Annotated[list[Ids], Field(min_length=1, fail_fast=True)],
        Field(min_length=1, description="A list of ids, or a list of such lists."),
    ]
    skip_special_tokens: Annotated[StrictBool, Field(description="`false`: special ones too.")] = True
    model: Model = None


class TeiToken(BaseModel):
    """One token; a special one has no place in the text."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class TeiInfo(BaseModel):
    """About the default model, and the server's limits."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    model_type: dict[str, Any]
    max_input_length: int
    max_client_batch_size: int
    max_batch_tokens: int | None
    auto_truncate: bool
    version: str


async def tokenize(body: TeiTokenize, request: Request) -> Response:
    """The tokens of each text, with their ids and places; nothing is cut off."""
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    found = await inference_of(request).pieces(
        body.model, texts, prompt_name=body.prompt_name, special=body.add_special_tokens
    )
    size = sum(_PIECE_BYTES * len(each) for each in found)
    return await _written(request, [[_token(piece) for piece in each] for each in found], size)


async def decode(body: TeiDecode, request: Request) -> Response:
    """The text of each list of token ids."""
    ids: list[Any] = body.ids
    lists = [ids] if isinstance(ids[0], int) else ids
    texts = await inference_of(request).decoded(body.model, lists, special=not body.skip_special_tokens)
    return await _written(request, texts, sum(map(len, texts)))


async def _written(request: Request, content: Any, size: int) -> Response:
    return await encoded_response(
        lambda: orjson.dumps(content),
        size=size,
        media_type="application/json",
        accepted=exchange_of(request.scope).headers.get(b"accept-encoding", b""),
    )


def _token(piece: Piece) -> dict[str, Any]:
    return vars(piece)


_router = APIRouter()


@_router.get(
    "/info",
    response_model=TeiInfo,
    responses={503: {"description": "No default model is loaded yet", "model": TEI.answer}},
    summary="The default model, as TEI tells it",
)
async def info(request: Request) -> Response:
    """What is known of the default embedding model, of the reranker where there is none."""
    cards = sorted(inference_of(request).health().cards, key=lambda card: card.recipe.task != "embed")
    if not cards:
        raise NotReadyError("no default model is loaded yet", retry_after=1)
    return json_response(_told(cards[0], request.app.state.settings))


def _told(card: ModelCard, settings: ServeSettings) -> dict[str, Any]:
    embeds = card.recipe.task == "embed"
    return {
        "model_id": card.id,
        "model_sha": card.commit,
        "model_dtype": {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}.get(
            card.precision, card.precision
        ),
        "model_type": {"embedding": {"pooling": card.recipe.pooling}} if embeds else {"reranker": {}},
        "max_input_length": card.recipe.max_tokens,
        "max_client_batch_size": settings.max_inputs_per_request,
        "max_batch_tokens": settings.max_batch_tokens,
        "auto_truncate": True,
        "version": embedding_runtime.__version__,
    }


def add_tei_models(app: FastAPI) -> None:
    """Add the endpoints to an app."""
    tokens = list[list[TeiToken]]
    add_endpoint(
        app, "/tokenize", tokenize, tokens, "The tokens of texts, as TEI answers", errors=TEI, computed=False
    )
    add_endpoint(
        app, "/decode", decode, list[str], "Text from token ids, as TEI answers", errors=TEI, computed=False
    )
    app.include_router(_router)
