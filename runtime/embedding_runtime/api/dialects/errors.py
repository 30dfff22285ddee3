"""The bodies of errors as each dialect's clients read them, and their statuses."""

from typing import Any, Literal

from pydantic import BaseModel

from embedding_runtime.api.error_form import DOCUMENTED, ErrorForm, Told
from embedding_runtime.errors import (
    InputTooLongError,
    InvalidRequestError,
    QueryTooLongError,
    TooManyInputsError,
)

# These say 400 where the documented form has 413 and 422 for what is wrong with a request's fields.
_AS_400 = {
    kind.code: 400 for kind in (InvalidRequestError, TooManyInputsError, InputTooLongError, QueryTooLongError)
}


class CohereError(BaseModel):
    """Cohere's body."""

    message: str


class RankingError(BaseModel):
    """What Cohere's clients and Jina's both find their message in."""

    message: str
    detail: str


class JinaError(BaseModel):
    """Jina's body."""

    detail: str


class TeiError(BaseModel):
    """The body of text-embeddings-inference."""

    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation"]


def _tei(told: Told) -> dict[str, Any]:
    if told.status == 429:
        kind = "Overloaded"
    elif told.status == 503:
        kind = "Unhealthy"
    else:
        kind = "Backend" if told.status >= 500 else "Validation"
    return {"error": told.message, "error_type": kind}


# OpenAI's body is the documented one.
OPENAI = ErrorForm(DOCUMENTED.body, DOCUMENTED.answer, _AS_400)
COHERE = ErrorForm(lambda told: {"message": told.message}, CohereError, _AS_400)
RANKING = ErrorForm(lambda told: {"message": told.message, "detail": told.message}, RankingError, _AS_400)
JINA = ErrorForm(lambda told: {"detail": told.message}, JinaError, _AS_400)
TEI = ErrorForm(_tei, TeiError)
