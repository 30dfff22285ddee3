"""Inputs of a graph that follow from the tokens: positions, and a memory of earlier tokens, which is empty.

Exports of decoders want them, since such models are made to go on with a text. `rewriting` puts them into the
graph; where the repository's own graph is run, the arrays that are made here go in. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from embedding_runtime.errors import UnsupportedModelError

_PAST = ("past_key_values.", "past_key_", "past_value_", "past.")
_BRANCH = "use_cache_branch"


@dataclass(frozen=True)
class Derived:
    """One such input. `heads` and `width`: of a memory, whose shape is [b, heads, 0, width]."""

    name: str
    kind: Literal["positions", "memory", "branch"]
    heads: int = 0
    width: int = 0

    @classmethod
    def of(cls, name: str, shape: Sequence[Any]) -> Self | None:
        """What the input of this name and shape is; None for one that does not follow from the tokens.

        Raises UnsupportedModelError for a memory of unknown size.
        """
        if name == "position_ids":
            return cls(name, "positions")
        if name == _BRANCH:
            return cls(name, "branch")
        if not name.startswith(_PAST):
            return None
        if len(shape) != 4 or not all(isinstance(shape[at], int) and shape[at] > 0 for at in (1, 3)):
            raise UnsupportedModelError(
                f"the graph wants a memory {name} of the shape {list(shape)}; only [texts, heads, earlier "
                "tokens, width] with fixed heads and width can be fed"
            )
        return cls(name, "memory", shape[1], shape[3])

    def array(self, mask: NDArray[np.int32], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Its value for the texts of a mask, [b, s], which are padded on the right."""
        if self.kind == "positions":
            return np.broadcast_to(np.arange(mask.shape[1], dtype=dtype), mask.shape).copy()
        if self.kind == "memory":
            return np.zeros((len(mask), self.heads, 0, self.width), dtype=dtype)
        return np.zeros(1, dtype=dtype)
