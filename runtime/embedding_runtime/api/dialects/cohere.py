"""Cohere's dialect: /v1/embed, /v2/embed, /v2/rerank, /v1/rerank, whose answer Jina's clients read too."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import orjson
from fastapi import FastAPI
from pydantic import BaseModel, Field, StrictBool, StrictStr
from starlette.requests import Request
from starlette.responses import Response

from embedding_runtime.api.dialects.errors import COHERE, RANKING
from embedding_runtime.api.dialects.quantisation import (
    Float32,
    as_base64,
    as_binary,
    as_int8,
    as_ubinary,
    as_uint8,
)
from embedding_runtime.api.dialects.ranking import Documents, RankedDocument, TopN, dumped, results, texts_of
from embedding_runtime.api.dialects.request import DialectRequest, Dimensions, Model, Texts, Untrained, Unused
from embedding_runtime.api.exchange import exchange_of
from embedding_runtime.api.inference import add_endpoint, embedded, encoded, ranked
from embedding_runtime.api.priority import asked_priority
from embedding_runtime.api.vectors import JSON_BYTES, json_rows
from embedding_runtime.service.answers import Embeddings
from embedding_runtime.service.queries import EmbedQuery, RerankQuery, Truncate

Kind = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]
Kinds = Annotated[
    list[Kind] | None,
    Field(min_length=1, max_length=6, description="In which forms each vector is wanted."),
]
InputType = Annotated[
    Literal["search_document", "search_query", "classification", "clustering"] | None,
    Field(description="What the texts are: the prompt for it, where the model has one."),
]
Cut = Annotated[
    Literal["NONE", "START", "END"] | None,
    Field(description="Where a text that is too long is cut; `NONE`: 400. Left out: `END`."),
]

_TYPES = {"search_document": "document", "search_query": "query"}
_TRUNCATE: dict[str | None, Truncate] = {None: "right", "NONE": "never", "START": "left", "END": "right"}
_BY_KIND = {"int8": as_int8, "uint8": as_uint8, "binary": as_binary, "ubinary": as_ubinary}


class CohereEmbed(DialectRequest):
    """Texts to embed."""

    texts: Texts
    model: Model = None
    input_type: InputType = None
    embedding_types: Kinds = None
    truncate: Cut = None
    priority: Unused = None


class CohereEmbedV2(CohereEmbed):
    """Texts to embed."""

    output_dimension: Dimensions = None
    allow_untrained_dimensions: Untrained = False


class CohereRerank(DialectRequest):
    """Documents to rank for a query, as Cohere's and Jina's clients ask."""

    query: StrictStr
    documents: Documents
    model: Model = None
    top_n: TopN = None
    return_documents: Annotated[StrictBool | None, Field(description="`false`: without documents.")] = None
    rank_fields: Annotated[
        Texts | None, Field(description="The fields of a document that is an object; left out: `text`.")
    ] = None
    priority: Unused = None


class CohereRerankV2(DialectRequest):
    """Documents to rank for a query."""

    query: StrictStr
    documents: Documents
    model: Model = None
    top_n: TopN = None
    return_documents: Annotated[StrictBool | None, Field(description="`true`: with documents.")] = None
    priority: Unused = None


class CohereVersion(BaseModel):
    """Of the API that answered."""

    version: Literal["1", "2"]


class CohereUnits(BaseModel):
    """What the answer cost: tokens that went through the model."""

    input_tokens: int


class CohereMeta(BaseModel):
    """About an answer."""

    api_version: CohereVersion
    billed_units: CohereUnits


class CohereVectors(BaseModel):
    """The vectors in each form that was asked for."""

    floats: Annotated[list[list[float]] | None, Field(alias="float")] = None
    int8: list[list[int]] | None = None
    uint8: list[list[int]] | None = None
    binary: list[list[int]] | None = None
    ubinary: list[list[int]] | None = None
    base64: list[str] | None = None


class CohereByType(BaseModel):
    """One vector for each text, by form."""

    response_type: Literal["embeddings_by_type"]
    id: str
    embeddings: CohereVectors
    texts: list[str]
    meta: CohereMeta


class CohereFloats(BaseModel):
    """One vector for each text."""

    response_type: Literal["embeddings_floats"]
    id: str
    embeddings: list[list[float]]
    texts: list[str]
    meta: CohereMeta


class CohereRanking(BaseModel):
    """The documents, best first."""

    id: str
    results: list[RankedDocument]
    meta: CohereMeta


class RankingUsage(BaseModel):
    """Tokens that went through the model."""

    total_tokens: int


class SharedRanking(CohereRanking):
    """The same, with what Jina's clients read besides."""

    model: str
    usage: RankingUsage


async def embed_v1(body: CohereEmbed, request: Request) -> Response:
    """One vector for each text, always of length 1: plain, or in each of the forms that were asked for."""
    return await _embed(body, request, "1", body.embedding_types)


async def embed_v2(body: CohereEmbedV2, request: Request) -> Response:
    """One vector for each text, always of length 1, in each of the forms that were asked for."""
    return await _embed(body, request, "2", body.embedding_types or ["float"])


async def rerank_v1(body: CohereRerank, request: Request) -> Response:
    """The documents, best first, each with a score between 0 and 1 and what it holds."""
    fields = body.rank_fields or ("text",)
    return await _rerank(body, fields, request, "1", with_documents=body.return_documents is not False)


async def rerank_v2(body: CohereRerankV2, request: Request) -> Response:
    """The documents, best first, each with a score between 0 and 1."""
    return await _rerank(body, ("text",), request, "2", with_documents=body.return_documents is True)


async def _embed(body: CohereEmbed, request: Request, version: str, kinds: Sequence[Kind] | None) -> Response:
    query = EmbedQuery(
        body.texts,
        body.model,
        truncate=_TRUNCATE[body.truncate],
        input_type=_TYPES.get(body.input_type or "", body.input_type),
        normalize=True,
        dimensions=body.output_dimension if isinstance(body, CohereEmbedV2) else None,
        untrained_dimensions=isinstance(body, CohereEmbedV2) and body.allow_untrained_dimensions,
        priority=asked_priority(exchange_of(request.scope).headers),
    )
    found = await embedded(request, query)
    told = {
        "response_type": "embeddings_by_type" if kinds else "embeddings_floats",
        "id": exchange_of(request.scope).id,
        "texts": body.texts,
        "meta": _meta(version, found.tokens),
    }
    size = JSON_BYTES * found.rows.size * len(kinds or " ")
    return await encoded(request, found.card, lambda: b"".join(_parts(found, kinds, told)), size=size)


def _parts(
    found: Embeddings, kinds: Sequence[Kind] | None, told: dict[str, Any]
) -> Iterator[bytes | memoryview]:
    yield b'{"embeddings":'
    if kinds:
        for at, kind in enumerate(dict.fromkeys(kinds)):
            yield b'%b"%b":' % (b"," if at else b"{", kind.encode())
            yield from _values(found.rows, kind)
        yield b"}"
    else:
        yield from _values(found.rows, "float")
    yield b"," + orjson.dumps(told)[1:]


def _values(rows: Float32, kind: Kind) -> Iterator[bytes | memoryview]:
    if kind == "base64":
        yield orjson.dumps([as_base64(row) for row in rows])
        return
    yield b"["
    yield from json_rows(rows if kind == "float" else _BY_KIND[kind](rows))
    yield b"]"


async def _rerank(
    body: CohereRerank | CohereRerankV2,
    fields: Sequence[str],
    request: Request,
    version: str,
    *,
    with_documents: bool,
) -> Response:
    exchange = exchange_of(request.scope)
    texts = texts_of(body.documents, fields)
    query = RerankQuery(body.query, texts, body.model, priority=asked_priority(exchange.headers))
    found = await ranked(request, query)
    told, size = results(found, body.documents, body.top_n, with_documents=with_documents)
    content: dict[str, Any] = {"id": exchange.id, "results": told, "meta": _meta(version, found.tokens)}
    if version == "1":
        content |= {"model": found.card.id, "usage": {"total_tokens": found.tokens}}
    return await encoded(request, found.card, lambda: dumped(content), size=size)


def _meta(version: str, tokens: int) -> dict[str, Any]:
    return {"api_version": {"version": version}, "billed_units": {"input_tokens": tokens}}


def add_cohere(app: FastAPI) -> None:
    """Add the endpoints to an app."""
    summary = "A vector for each text, as Cohere answers"
    add_endpoint(app, "/v1/embed", embed_v1, CohereFloats | CohereByType, summary, errors=COHERE)
    add_endpoint(app, "/v2/embed", embed_v2, CohereByType, summary, errors=COHERE)
    summary = "Documents, best first, as Cohere and Jina answer"
    add_endpoint(app, "/v1/rerank", rerank_v1, SharedRanking, summary, errors=RANKING)
    add_endpoint(app, "/v2/rerank", rerank_v2, CohereRanking, "The same, as Cohere answers", errors=COHERE)
