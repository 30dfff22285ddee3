"""The documented answers, for the OpenAPI document alone: the routes write them without these in between."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


def _example(content: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [content]})


class Usage(BaseModel):
    """What the answer cost."""

    total_tokens: Annotated[
        int,
        Field(
            description="That went through the model: after truncation, special ones included, no padding."
        ),
    ]


class SparseVector(BaseModel):
    """The words that matter of one text, with their weights."""

    indices: Annotated[list[int], Field(description="Of the model's vocabulary, ascending.")]
    weights: list[float]


class EmbedAnswer(BaseModel):
    """One vector for each text, in the order of the texts."""

    model_config = _example(
        {
            "embeddings": [[0.0152, -0.0226, 0.0085], [-0.0216, -0.0308, 0.0245]],
            "model": "BAAI/bge-small-en-v1.5",
            "usage": {"total_tokens": 8},
        }
    )

    embeddings: Annotated[list[list[float]] | None, Field(description="Of a dense model.")] = None
    sparse_embeddings: Annotated[list[SparseVector] | None, Field(description="Of a sparse model.")] = None
    model: Annotated[str, Field(description="The id of the model that answered.")]
    usage: Usage


class RerankResult(BaseModel):
    """One document."""

    index: Annotated[int, Field(description="Its place in the request, from 0.")]
    score: Annotated[float, Field(description="Between 0 and 1; with `raw_scores` any number.")]
    text: Annotated[str | None, Field(description="Absent with `return_documents: false`.")] = None


class RerankAnswer(BaseModel):
    """The documents, best first."""

    model_config = _example(
        {
            "results": [
                {"index": 0, "score": 0.95, "text": "Deep learning is a subset of machine learning"},
                {"index": 2, "score": 0.87, "text": "Neural networks are used in ML"},
            ],
            "model": "BAAI/bge-reranker-base",
            "usage": {"total_tokens": 39},
        }
    )

    results: list[RerankResult]
    model: Annotated[str, Field(description="The id of the model that answered.")]
    usage: Usage


class ModelSource(BaseModel):
    """A repository and the ONNX file in it."""

    repository: str
    file: str


class ModelDetail(BaseModel):
    """One model. What is known only of a loaded model is null before."""

    model: str
    served_names: list[str]
    task: str
    kind: Annotated[
        Literal["dense", "sparse", "cross_encoder"] | None, Field(description="What the model gives.")
    ]
    state: Literal["available", "loading", "ready", "exhausted", "load_failed"]
    reason: str
    message: str
    default: bool
    dimensions: int | None
    max_tokens: int | None
    revision: Annotated[str | None, Field(description="The commit.")]
    provider: str | None
    fallback: Annotated[str | None, Field(description="Why it is not the provider that was asked for.")]
    precision: str | None
    prepared: Annotated[bool | None, Field(description="Whether a graph made for running is run.")]
    unprepared: Annotated[str | None, Field(description="Why the repository's own graph is run instead.")]
    unfused: Annotated[str | None, Field(description="What should be fused in the graph and is not.")]
    memory_bytes: int | None
    source: Annotated[
        ModelSource | None,
        Field(description="Whose files these are, where another repository answers for the name."),
    ]
    fingerprint: Annotated[str | None, Field(description="Identifies the embedding space.")]


class ModelsAnswer(BaseModel):
    """The names that a request may use now, by task."""

    model_config = _example(
        {
            "embedding_models": ["BAAI/bge-small-en-v1.5", "text-embedding-3-small"],
            "reranking_models": ["BAAI/bge-reranker-base"],
        }
    )

    embedding_models: list[str]
    reranking_models: list[str]
    models: Annotated[list[ModelDetail] | None, Field(description="With `?detail=true` only.")] = None


class Alive(BaseModel):
    """The process answers."""

    model_config = _example({"status": "alive"})

    status: str


class LoadedModel(BaseModel):
    """A default model, as readiness describes it."""

    model: str
    revision: str
    task: str
    fingerprint: str
    provider: str
    fallback: str | None
    precision: str
    dimensions: int | None
    max_tokens: int


class Ready(BaseModel):
    """Every default model answers."""

    status: Literal["ready"]
    models: list[LoadedModel]


class NotReady(BaseModel):
    """What is missing."""

    model_config = _example(
        {"status": "loading", "reason": "Loading", "message": "BAAI/bge-small-en-v1.5 is loading"}
    )

    status: Literal["loading", "exhausted", "load_failed", "draining"]
    reason: str
    message: str


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: Annotated[str | None, Field(description="The field or header that it is about.")]
    code: Annotated[str, Field(description="A stable name.")]


class ErrorAnswer(BaseModel):
    """The shape of every error."""

    error: ErrorBody
