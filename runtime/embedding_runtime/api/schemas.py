"""The documented requests, as pydantic checks them. Answers are written by the routes, without a model in
between.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr


def _encodable(text: str) -> str:
    """JSON can escape half of a surrogate pair, which no tokenizer takes."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("half of a surrogate pair is no text") from None
    return text


_Text = Annotated[StrictStr, AfterValidator(_encodable)]
_Texts = Annotated[list[_Text], Field(min_length=1)]
_Model = Annotated[
    _Text | None,
    Field(description="A served model's id, optionally @revision. Left out: the task's default model."),
]


class EmbedRequest(BaseModel):
    """Texts to embed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"input": ["hello world", "semantic search"], "model": "BAAI/bge-small-en-v1.5"}]
        }
    )

    input: Annotated[_Text | _Texts, Field(description="One text or a list of texts.")]
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

    query: _Text
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
