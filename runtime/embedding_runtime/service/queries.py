"""What the HTTP side asks `Inference` for, whichever dialect a request came in. Plain data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from embedding_runtime.service.policy.backlog import Priority

Truncate = Literal["never", "model", "left", "right"]
"""Where an input that is too long loses tokens: nowhere, which is an error; on the side that the model's
tokenizer says; at its beginning; at its end."""

Output = Literal["dense", "sparse", "tokens"]
"""A vector; the words that matter with their weights; a vector for each token."""


@dataclass(frozen=True)
class EmbedQuery:
    """Texts to embed, or instead of them lists of the model's own token ids, which go into it as they are.

    `model`: a name, None for the default one. `prompt_name` or `input_type` choose what goes in front of each
    text. `normalize`: whether vectors have the length 1; None as the model says. `dimensions`: how many of
    the first numbers are wanted, which are normalised again where the vector was; a model that was not
    trained for that refuses unless `untrained_dimensions`. `priority` None: by the number of inputs.
    `outputs`: what is wanted; none of them: what the model gives.
    """

    texts: Sequence[str]
    model: str | None = None
    truncate: Truncate = "model"
    prompt_name: str | None = None
    input_type: str | None = None
    normalize: bool | None = None
    dimensions: int | None = None
    untrained_dimensions: bool = False
    token_ids: Sequence[Sequence[int]] = ()
    outputs: tuple[Output, ...] = ("dense",)
    priority: Priority | None = None


@dataclass(frozen=True)
class RerankQuery:
    """Documents to score for a query, which is never cut."""

    query: str
    documents: Sequence[str]
    model: str | None = None
    truncate: Truncate = "model"
    priority: Priority | None = None
