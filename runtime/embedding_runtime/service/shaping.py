"""What a request wants of a model, and vectors as it wants them: of length 1 or as they were, and only their
first numbers. Pure.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from embedding_runtime.engine.backend import Extra, Float32
from embedding_runtime.errors import InvalidRequestError, UntrainedDimensionsError, WrongTaskError
from embedding_runtime.model.recipe import Kind, Recipe
from embedding_runtime.service.answers import Sparse
from embedding_runtime.service.queries import EmbedQuery, Output
from embedding_runtime.service.wire import Rows

# As sentence-transformers and torch.nn.functional.normalize have it.
_LEAST_NORM = np.float32(1e-12)


_GIVES: Mapping[Kind, tuple[Output, ...]] = {"dense": ("dense", "tokens"), "sparse": ("sparse",)}


def check_outputs(query: EmbedQuery, recipe: Recipe, model: str) -> None:
    """Raise WrongTaskError where the model does not give what the query wants."""
    gives = _GIVES[recipe.kind]
    missing = [name for name in query.outputs if name not in gives]
    if missing:
        raise WrongTaskError(
            f"{model} gives {gives[0]} output, not {missing[0]}: ask /embed for it with "
            f'"outputs": ["{gives[0]}"], or name another model',
            param="model",
        )


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
    """What the engine has to give beside rows, or instead of them: lengths, where the model makes them 1 and
    nobody wants that; vectors of tokens; sparse rows.
    """
    wanted: list[Extra] = []
    if recipe.normalize and query.normalize is False:
        wanted.append("norm")
    if "tokens" in query.outputs:
        wanted.append("tokens")
    if recipe.kind == "sparse":
        wanted.append("sparse")
    return tuple(wanted)


def shaped(found: Rows, query: EmbedQuery, recipe: Recipe) -> Float32:
    """The rows, float32 [n, d], as `query` wants them; without dimensions where it wants none."""
    rows = found.values
    if query.outputs and "dense" not in query.outputs:
        return rows[:, :0]
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


def sparse(found: Sequence[Float32]) -> tuple[Sparse, ...]:
    """What the engine's extra of that name, [k, 2] for each text, means."""
    return tuple(
        Sparse(np.ascontiguousarray(each[:, 0]).view(np.int32), np.ascontiguousarray(each[:, 1]))
        for each in found
    )
