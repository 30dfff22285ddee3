"""How an error is told: what there is to say of it, and the bodies that say it. The documented body is here,
those of the dialects are with them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from embedding_runtime.api.answers import ErrorAnswer


@dataclass(frozen=True)
class Told:
    """`kind` is the class of mistake as OpenAI's clients know it, `code` the domain error's stable name,
    `param` the field that it is about.
    """

    status: int
    kind: str
    message: str
    param: str | None
    code: str


@dataclass(frozen=True)
class ErrorForm:
    """A body for errors, `answer` its schema; `statuses`: by code, where they are not the documented ones."""

    body: Callable[[Told], dict[str, Any]]
    answer: type[BaseModel]
    statuses: Mapping[str, int] = field(default_factory=dict)

    def status(self, told: Told) -> int:
        """The status of the answer that tells it."""
        return self.statuses.get(told.code, told.status)


def _documented(told: Told) -> dict[str, Any]:
    return {"error": {"message": told.message, "type": told.kind, "param": told.param, "code": told.code}}


DOCUMENTED = ErrorForm(_documented, ErrorAnswer)
