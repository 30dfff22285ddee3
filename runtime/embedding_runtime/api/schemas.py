"""The documented requests, as pydantic checks them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

# The first wrong entry is the one that is told: collecting those of a million takes seconds.
_Texts = Annotated[list[StrictStr], Field(min_length=1, fail_fast=True)]
_Model = Annotated[
    StrictStr | None,
    Field(
        description="A name that `/models` lists, or one of them with `@revision` (branch, tag or commit). "
        "Left out: the task's default model."
    ),
]


class EmbedRequest(BaseModel):
    """Texts to embed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"input": ["hello world", "semantic search"], "model": "BAAI/bge-small-en-v1.5"}]
        }
    )

    input: Annotated[StrictStr | _Texts, Field(description="One text, or a list of texts.")]
    model: _Model = None
    truncate: Annotated[
        StrictBool,
        Field(description="Cut a text that is longer than the model takes; `false`: 413 that names it."),
    ] = True
    prompt_name: Annotated[
        StrictStr | None,
        Field(description="Which of the model's prompts to put in front of each text."),
    ] = None
    input_type: Annotated[
        Literal["query", "document", "passage"] | None,
        Field(description="What the texts are: the prompt of that name, where the model has one."),
    ] = None

    outputs: Annotated[
        list[Literal["dense", "sparse"]],
        Field(description="What is wanted; nothing: what the model gives.", max_length=2),
    ] = []

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
                        "Neural networks are used in ML",
                    ],
                    "model": "BAAI/bge-reranker-base",
                    "top_n": 2,
                }
            ]
        }
    )

    query: Annotated[StrictStr, Field(description="One text; it is never cut.")]
    documents: Annotated[_Texts, Field(description="The texts to rank.")]
    model: _Model = None
    top_n: Annotated[
        StrictInt | None, Field(ge=1, description="How many results to return; all when left out.")
    ] = None
    return_documents: Annotated[StrictBool, Field(description="Whether each result carries its text.")] = True
    raw_scores: Annotated[
        StrictBool, Field(description="The model's own scores (logits) instead of their sigmoid.")
    ] = False
    truncate: Annotated[
        StrictBool,
        Field(description="Cut a document that is too long together with the query; `false`: 413."),
    ] = True
