"""Jina's dialect of /v1/embeddings, told from OpenAI's by its fields. Its ranking is Cohere's."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictStr
from starlette.requests import Request
from starlette.responses import Response

from embedding_runtime.api.dialects.errors import JINA
from embedding_runtime.api.dialects.openai import OpenAIVectors, written
from embedding_runtime.api.dialects.quantisation import (
    BASE64_BYTES,
    Float32,
    as_base64,
    as_binary,
    as_ubinary,
)
from embedding_runtime.api.dialects.request import (
    DialectRequest,
    Dimensions,
    Model,
    Texts,
    Untrained,
    Unused,
)
from embedding_runtime.api.exchange import exchange_of
from embedding_runtime.api.inference import embedded
from embedding_runtime.api.inference_route import Variant
from embedding_runtime.api.priority import asked_priority
from embedding_runtime.api.vectors import JSON_BYTES
from embedding_runtime.errors import UnsupportedFieldError
from embedding_runtime.service.queries import EmbedQuery

_TASKS = {
    "retrieval.query": "query",
    "retrieval.passage": "document",
    "classification": "classification",
    "separation": "clustering",
    "text-matching": "similarity",
}
# What is made of each row, and what a number takes.
_FORMS: dict[str, tuple[Callable[[Float32], Any], int]] = {
    "float": (lambda row: row, JSON_BYTES),
    "base64": (as_base64, BASE64_BYTES),
    "binary": (lambda row: as_binary(row[None])[0], 1),
    "ubinary": (lambda row: as_ubinary(row[None])[0], 1),
}
# The fields that OpenAI's requests do not have.
_FIELDS = ("task", "embedding_type", "late_chunking", "normalized", "truncate", "text")


class JinaText(DialectRequest):
    """A text as an object."""

    text: StrictStr


class JinaEmbeddings(DialectRequest):
    """Texts to embed, with fields that Jina has beside OpenAI's."""

    input: StrictStr | Texts | Annotated[list[JinaText], Field(min_length=1, fail_fast=True)]
    model: Model = None
    task: Annotated[
        Literal["retrieval.query", "retrieval.passage", "classification", "separation", "text-matching"]
        | None,
        Field(description="What the vectors are for: the prompt for it, where the model has one."),
    ] = None
    embedding_type: Literal["float", "base64", "binary", "ubinary"] | None = None
    encoding_format: Annotated[
        Literal["float", "base64"] | None, Field(description="As `embedding_type`, which must not differ.")
    ] = None
    normalized: Annotated[StrictBool, Field(description="`false`: as long as the model makes them.")] = True
    late_chunking: Annotated[StrictBool, Field(description="`true` is refused.")] = False
    truncate: Annotated[
        StrictBool | None,
        Field(description="Cut a text that is too long; `false`: 400. Left out: it is cut."),
    ] = None
    dimensions: Dimensions = None
    allow_untrained_dimensions: Untrained = False
    user: Unused = None
    priority: Unused = None

    @property
    def texts(self) -> list[str]:
        """The input as a list of texts."""
        if isinstance(self.input, str):
            return [self.input]
        return [each if isinstance(each, str) else each.text for each in self.input]


async def embeddings(body: JinaEmbeddings, request: Request) -> Response:
    """One vector for each text, as Jina's API answers."""
    if body.late_chunking:
        raise UnsupportedFieldError(
            "late_chunking is not served: every text is embedded by itself; leave it out",
            param="late_chunking",
        )
    if body.embedding_type and body.encoding_format and body.embedding_type != body.encoding_format:
        raise UnsupportedFieldError(
            f"embedding_type is {body.embedding_type}, encoding_format {body.encoding_format}; leave one out",
            param="encoding_format",
        )
    query = EmbedQuery(
        body.texts,
        body.model,
        truncate="never" if body.truncate is False else "model",
        input_type=_TASKS[body.task] if body.task else None,
        normalize=body.normalized,
        dimensions=body.dimensions,
        untrained_dimensions=body.allow_untrained_dimensions,
        priority=asked_priority(exchange_of(request.scope).headers),
    )
    found = await embedded(request, query)
    return await written(request, found, *_FORMS[body.embedding_type or body.encoding_format or "float"])


VARIANTS = tuple(Variant(field, embeddings, OpenAIVectors, JINA, "embed") for field in _FIELDS)
