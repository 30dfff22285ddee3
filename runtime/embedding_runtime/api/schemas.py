"""The documented requests, as pydantic checks them. Answers are written by the routes, without a model in
between.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

_Texts = Annotated[list[StrictStr], Field(min_length=1)]
_Model = Annotated[
    StrictStr | None,
    Field(description="A served model's id, optionally @revision. Left out: the task's default model."),
]


class EmbedRequest(BaseModel):
    """Texts to embed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"input": ["hello world", "semantic search"], "model": "BAAI/bge-small-en-v1.5"}]
        }
    )

    input: Annotated[StrictStr | _Texts, Field(description="One text or a list of texts.")]
    model: _Model = None

    @property
    def texts(self) -> list[str]:
        """The input as a list."""
        return [self.input] if isinstance(self.input, str) else self.input


class RerankRequest(BaseModel):
    """Documents to rank for a query."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "query": "machine learning",
                    "documents": [
                        "Deep learning is a subset of machine learning",
                        "The weather is nice today",
                    ],
                    "model": "BAAI/bge-reranker-base",
                    "top_n": 1,
                }
            ]
        }
    )

    query: StrictStr
    documents: _Texts
    model: _Model = None
    top_n: Annotated[
        StrictInt | None, Field(ge=1, description="How many results to return; all when left out.")
    ] = None
    return_documents: Annotated[StrictBool, Field(description="Whether each result carries its text.")] = True


def error_schema() -> dict[str, Any]:
    """The body of every error, for the OpenAPI document."""
    text = {"type": ["string", "null"]}
    return {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": text,
                    "code": text,
                },
            }
        },
    }
