"""What rankings of Cohere and Jina have in common: documents that are strings or objects, and the results."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, Field, StrictInt, StrictStr

from embedding_runtime.errors import InvalidRequestError
from embedding_runtime.service.answers import Ranking

Documents = Annotated[
    list[StrictStr | dict[str, Any]],
    Field(min_length=1, fail_fast=True, description="The texts to rank, or objects with a `text`."),
]
TopN = Annotated[StrictInt | None, Field(ge=1, description="How many results to return; all when left out.")]

# What a result takes beside its document.
_RESULT_BYTES = 64


class RankedDocument(BaseModel):
    """One document; `document` is the object that was sent, or its text."""

    index: int
    relevance_score: float
    document: dict[str, Any] | None = None


def texts_of(documents: Sequence[str | dict[str, Any]], fields: Sequence[str] = ("text",)) -> list[str]:
    """What is ranked of each document: of an object the field, or the lines `field: value` of several.

    Raises InvalidRequestError where a field is missing or no text.
    """
    return [
        document if isinstance(document, str) else _text(document, f"documents.{at}", fields)
        for at, document in enumerate(documents)
    ]


def _text(document: dict[str, Any], place: str, fields: Sequence[str]) -> str:
    for name in fields:
        if not isinstance(document.get(name), str):
            raise InvalidRequestError(
                f"{place}.{name}: a document is a text, or an object in which this is one", param=place
            )
    if len(fields) == 1:
        return str(document[fields[0]])
    return "\n".join(f"{name}: {document[name]}" for name in fields)


def results(
    found: Ranking, documents: Sequence[str | dict[str, Any]], top_n: int | None, *, with_documents: bool
) -> tuple[list[dict[str, Any]], int]:
    """The best of the documents, and roughly how many bytes they take."""
    told: list[dict[str, Any]] = []
    size = 0
    for each in found.ranked[:top_n]:
        result: dict[str, Any] = {"index": each.index, "relevance_score": each.score}
        if with_documents:
            document = documents[each.index]
            result["document"] = {"text": document} if isinstance(document, str) else document
            size += len(document) if isinstance(document, str) else len(str(document))
        told.append(result)
    return told, size + _RESULT_BYTES * len(told)


def dumped(content: dict[str, Any]) -> bytes:
    """JSON; a document that is an object may hold integers that the fast way has no room for."""
    try:
        return orjson.dumps(content)
    except orjson.JSONEncodeError:
        return json.dumps(content, ensure_ascii=False).encode()
