"""Vectors as a request wants them: of length 1 or as they were, and only their first numbers. Pure."""

import numpy as np

from embedding_runtime.engine.backend import Extra, Float32
from embedding_runtime.errors import InvalidRequestError, UntrainedDimensionsError
from embedding_runtime.model.recipe import Recipe
from embedding_runtime.service.queries import EmbedQuery
from embedding_runtime.service.wire import Rows

# As sentence-transformers and torch.nn.functional.normalize have it.
_LEAST_NORM = np.float32(1e-12)


def check_dimensions(query: EmbedQuery, recipe: Recipe, dimensions: int | None) -> None:
    """Whether a model of so many dimensions gives as many as are asked for.

    Raises InvalidRequestError, UntrainedDimensionsError.
    """
    wanted = query.dimensions
    if wanted is None or dimensions is None or wanted == dimensions:
        return
    if wanted > dimensions:
        raise InvalidRequestError(
            f"dimensions is {wanted}; the model's vectors have {dimensions}", param="dimensions"
        )
    if not query.untrained_dimensions and wanted < min(recipe.matryoshka, default=dimensions):
        trained = ", ".join(map(str, recipe.matryoshka)) or "none"
        raise UntrainedDimensionsError(
            f"the model was not trained to have its vectors cut to {wanted} dimensions (but to: {trained}); "
            "leave dimensions out, or set allow_untrained_dimensions where a lower quality will do",
            param="dimensions",
        )


def extras(query: EmbedQuery, recipe: Recipe) -> tuple[Extra, ...]:
    """What the model has to give beside its rows: their lengths, where it made them 1 unasked."""
    return ("norm",) if recipe.normalize and query.normalize is False else ()


def shaped(found: Rows, query: EmbedQuery, recipe: Recipe) -> Float32:
    """The rows, float32 [n, d], as `query` wants them."""
    rows = found.values
    if "norm" in found.extras:
        rows = rows * np.concatenate(found.extras["norm"])
    unit = recipe.normalize if query.normalize is None else query.normalize
    cut = query.dimensions is not None and query.dimensions < rows.shape[1]
    if cut:
        rows = rows[:, : query.dimensions]
    if unit and (cut or not recipe.normalize):
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows / np.maximum(norms, _LEAST_NORM)
    return np.ascontiguousarray(rows, dtype=np.float32)
