"""The dialect of text-embeddings-inference: /embed and /rerank by their keys, / by shape, /similarity,
/predict, /embed_all and /embed_sparse.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from fastapi import FastAPI
from pydantic import BaseModel, Field, StrictBool, StrictStr
from starlette.requests import Request
from starlette.responses import Response

from embedding_runtime.api.dialects.errors import TEI
from embedding_runtime.api.dialects.quantisation import BASE64_BYTES, as_base64
from embedding_runtime.api.dialects.request import DialectRequest, Dimensions, Model, Texts, Untrained
from embedding_runtime.api.exchange import exchange_of
from embedding_runtime.api.inference import add_endpoint, embedded, encoded, ranked
from embedding_runtime.api.inference_route import Variant
from embedding_runtime.api.priority import asked_priority
from embedding_runtime.api.vectors import JSON_BYTES, json_rows
from embedding_runtime.errors import TooManyInputsError, UnsupportedFieldError
from embedding_runtime.service.answers import Ranked, Ranking
from embedding_runtime.service.queries import EmbedQuery, Output, RerankQuery, Truncate
from embedding_runtime.settings import ServeSettings

Direction = Annotated[
    Literal["left", "right", "Left", "Right"] | None,
    Field(description="On which side; left out: as the model's tokenizer says."),
]
Cut = Annotated[
    StrictBool | None, Field(description="Cut a text that is too long; `false`: 413. Left out: it is cut.")
]
PromptName = Annotated[StrictStr | None, Field(description="Which of the model's prompts goes in front.")]
Raw = Annotated[StrictBool, Field(description="The model's own scores instead of their sigmoid.")]
Pair = Annotated[list[StrictStr], Field(min_length=2, max_length=2)]

# What a result takes beside its text.
_RESULT_BYTES = 48
# And a number of a sparse vector.
_WEIGHT_BYTES = 40
_SIDES: dict[str | None, Truncate] = {
    None: "model", "left": "left", "Left": "left", "right": "right", "Right": "right"
}  # fmt: skip
# The only label of a model with one.
_LABEL = "LABEL_0"


class TeiEmbed(DialectRequest):
    """Texts to embed."""

    inputs: StrictStr | Texts
    normalize: Annotated[StrictBool, Field(description="`false`: as long as the model makes them.")] = True
    truncate: Cut = None
    truncation_direction: Direction = None
    prompt_name: PromptName = None
    dimensions: Dimensions = None
    allow_untrained_dimensions: Untrained = False
    encoding_format: Annotated[
        Literal["float", "base64"] | None,
        Field(description="`base64`: of each vector's little-endian float32 numbers."),
    ] = None
    model: Model = None


class TeiRerank(DialectRequest):
    """Texts to rank for a query."""

    query: StrictStr
    texts: Texts
    raw_scores: Raw = False
    return_text: Annotated[StrictBool, Field(description="Whether each result carries its text.")] = False
    truncate: Cut = None
    truncation_direction: Direction = None
    model: Model = None


class TeiPredict(DialectRequest):
    """A pair of texts to score, or several pairs."""

    inputs: Annotated[
        StrictStr | Pair | Annotated[list[Pair], Field(min_length=1, fail_fast=True)],
        Field(description="A pair of texts, or a list of pairs: a reranker scores nothing else."),
    ]
    raw_scores: Raw = False
    truncate: Cut = None
    truncation_direction: Direction = None
    model: Model = None


class TeiSentences(DialectRequest):
    """A text, and those that it is compared with."""

    source_sentence: StrictStr
    sentences: Texts


class TeiParameters(DialectRequest):
    """How they are embedded."""

    truncate: Cut = None
    truncation_direction: Direction = None
    prompt_name: PromptName = None


class TeiSimilarity(DialectRequest):
    """Texts to compare."""

    inputs: TeiSentences
    parameters: TeiParameters | None = None
    model: Model = None


class TeiTexts(DialectRequest):
    """Texts to embed otherwise than by one vector each."""

    inputs: StrictStr | Texts
    truncate: Cut = None
    truncation_direction: Direction = None
    prompt_name: PromptName = None
    model: Model = None


class TeiRank(BaseModel):
    """One text."""

    index: int
    score: float
    text: str | None = None


class TeiPrediction(BaseModel):
    """One label of a pair, a reranker's only one."""

    score: float
    label: str


class TeiWeight(BaseModel):
    """One number of a sparse vector."""

    index: int
    value: float


async def embed(body: TeiEmbed, request: Request) -> Response:
    """A bare array with one vector for each text."""
    query = EmbedQuery(
        [body.inputs] if isinstance(body.inputs, str) else body.inputs,
        body.model,
        truncate=_truncate(body),
        prompt_name=body.prompt_name,
        normalize=body.normalize,
        dimensions=body.dimensions,
        untrained_dimensions=body.allow_untrained_dimensions,
        priority=asked_priority(exchange_of(request.scope).headers),
    )
    found = await embedded(request, query)
    if body.encoding_format == "base64":
        texts = [as_base64(row) for row in found.rows]
        size = BASE64_BYTES * found.rows.size
        return await encoded(request, found.card, lambda: orjson.dumps(texts), size=size)

    def made() -> bytes:
        return b"".join([b"[", *json_rows(found.rows), b"]"])

    return await encoded(request, found.card, made, size=JSON_BYTES * found.rows.size)


async def rerank(body: TeiRerank, request: Request) -> Response:
    """A bare array with the texts, best first, each with a score between 0 and 1."""
    query = RerankQuery(
        body.query, body.texts, body.model, _truncate(body), asked_priority(_headers(request))
    )
    found = await ranked(request, query)
    score = _score(raw=body.raw_scores)
    results: list[dict[str, Any]] = [{"index": each.index, "score": score(each)} for each in found.ranked]
    if body.return_text:
        for result in results:
            result["text"] = body.texts[result["index"]]
    size = _RESULT_BYTES * len(results) + sum(len(result.get("text", "")) for result in results)
    return await encoded(request, found.card, lambda: orjson.dumps(results), size=size)


async def predict(body: TeiPredict, request: Request) -> Response:
    """The score of a pair of texts as a reranker gives it; of several pairs a list for each."""
    if isinstance(body.inputs, str):
        raise UnsupportedFieldError(
            "inputs is one text; the models that are served here score pairs of texts: send [query, text]",
            param="inputs",
        )
    single = isinstance(body.inputs[0], str)
    pairs: Sequence[Any] = [body.inputs] if single else body.inputs
    found = await _scored(body, pairs, request)
    content = [[{"score": score, "label": _LABEL}] for score in found[0]]
    card = found[1].card
    size = _RESULT_BYTES * len(content)
    return await encoded(request, card, lambda: orjson.dumps(content[0] if single else content), size=size)


async def _scored(
    body: TeiPredict, pairs: Sequence[Sequence[str]], request: Request
) -> tuple[list[float], Ranking]:
    """The score of each pair, and one of the rankings that they come from: one for each first text."""
    most = _settings(request).max_inputs_per_request
    if len(pairs) > most:
        raise TooManyInputsError(
            f"inputs has {len(pairs)} entries; one request may hold {most}", param="inputs"
        )
    places: dict[str, list[int]] = defaultdict(list)
    for at, (query, _) in enumerate(pairs):
        places[query].append(at)
    asked = [
        RerankQuery(
            query,
            [pairs[at][1] for at in where],
            body.model,
            _truncate(body),
            asked_priority(_headers(request)),
        )
        for query, where in places.items()
    ]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ranked(request, query)) for query in asked]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    score = _score(raw=body.raw_scores)
    scores = [0.0] * len(pairs)
    for where, task in zip(places.values(), tasks, strict=True):
        for each in task.result().ranked:
            scores[where[each.index]] = score(each)
    return scores, tasks[0].result()


async def similarity(body: TeiSimilarity, request: Request) -> Response:
    """The cosine of the angle between the first text's vector and that of each other one."""
    given = body.parameters or TeiParameters()
    query = EmbedQuery(
        [body.inputs.source_sentence, *body.inputs.sentences],
        body.model,
        truncate=_truncate(given),
        prompt_name=given.prompt_name,
        normalize=True,
        priority=asked_priority(_headers(request)),
    )
    found = await embedded(request, query)
    cosines: np.ndarray[Any, Any] = found.rows[1:] @ found.rows[0]

    def made() -> bytes:
        return orjson.dumps(cosines, option=orjson.OPT_SERIALIZE_NUMPY)

    return await encoded(request, found.card, made, size=JSON_BYTES * len(cosines))


async def embed_all(body: TeiTexts, request: Request) -> Response:
    """A vector for each token of each text, special tokens included, as the model gives them."""
    found = await embedded(request, _query(body, "tokens", request))

    def made() -> bytes:
        return b"[" + b",".join(b"[%b]" % b"".join(json_rows(rows)) for rows in found.token_rows) + b"]"

    size = JSON_BYTES * sum(rows.size for rows in found.token_rows)
    return await encoded(request, found.card, made, size=size)


async def embed_sparse(body: TeiTexts, request: Request) -> Response:
    """For each text the words that matter, of a sparse model."""
    found = await embedded(request, _query(body, "sparse", request))
    texts = found.sparse or ()

    def made() -> bytes:
        return orjson.dumps(
            [
                [
                    {"index": index, "value": value}
                    for index, value in zip(each.indices.tolist(), each.weights.tolist(), strict=True)
                ]
                for each in texts
            ]
        )

    size = _WEIGHT_BYTES * sum(len(each.indices) for each in texts)
    return await encoded(request, found.card, made, size=size)


def _query(body: TeiTexts, output: Output, request: Request) -> EmbedQuery:
    return EmbedQuery(
        [body.inputs] if isinstance(body.inputs, str) else body.inputs,
        body.model,
        truncate=_truncate(body),
        prompt_name=body.prompt_name,
        outputs=(output,),
        priority=asked_priority(_headers(request)),
    )


def _truncate(body: TeiEmbed | TeiRerank | TeiPredict | TeiParameters | TeiTexts) -> Truncate:
    return "never" if body.truncate is False else _SIDES[body.truncation_direction]


def _score(*, raw: bool) -> Callable[[Ranked], float]:
    return (lambda each: each.logit) if raw else (lambda each: each.score)


def _headers(request: Request) -> Mapping[bytes, bytes]:
    return exchange_of(request.scope).headers


def _settings(request: Request) -> ServeSettings:
    settings: ServeSettings = request.app.state.settings
    return settings


EMBED = Variant("inputs", embed, list[list[float]] | list[str], TEI, "embed")
RERANK = Variant("texts", rerank, list[TeiRank], TEI, "rerank")
_Predictions = list[TeiPrediction] | list[list[TeiPrediction]]
_SHAPES = (
    RERANK,
    Variant("source_sentence", similarity, list[float], TEI, "embed"),
    Variant("raw_scores", predict, _Predictions, TEI, "rerank"),
    Variant("inputs", predict, _Predictions, TEI, "rerank", rb"\[\s*\["),
)


def add_tei(app: FastAPI) -> None:
    """Add the endpoints to an app, but those that share a path with the documented ones."""
    add_endpoint(
        app,
        "/",
        embed,
        EMBED.answer,
        "/embed, /rerank, /predict or /similarity of TEI, by shape",
        errors=TEI,
        own_key="inputs",
        variants=_SHAPES,
    )
    add_endpoint(app, "/predict", predict, _Predictions, "The scores of pairs, as TEI answers", errors=TEI)
    add_endpoint(
        app, "/similarity", similarity, list[float], "How alike texts are, as TEI answers", errors=TEI
    )
    add_endpoint(app, "/embed_all", embed_all, list[list[list[float]]], "A vector for each token", errors=TEI)
    add_endpoint(
        app,
        "/embed_sparse",
        embed_sparse,
        list[list[TeiWeight]],
        "Sparse vectors, as TEI answers",
        errors=TEI,
    )
