"""The seam between serving and computing, and what crosses it.

A backend is created with what it is to run, then `load`, `warm_up`, any number of `run`, `close`; never
two at once. Everything that may differ between ONNX Runtime, OpenVINO and a fake in a test lies behind it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from embedding_runtime.engine.grid import Grid
from embedding_runtime.model.recipe import Recipe

Int32 = NDArray[np.int32]
UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]


Extra = Literal["norm", "tokens", "sparse"]
"""What may be asked of a model beside its rows: the length that a vector had before it was made 1; the
vectors of a text's tokens; and instead of rows of which most is 0 what is not: [k, 2], the bits of an int32
index and the number there."""

EXTRAS: tuple[Extra, ...] = get_args(Extra)


@dataclass(frozen=True)
class Outcome:
    """What a batch gives. `rows` float32 [b, width]; `extras`: by name what was asked for besides, for each
    text float32 [k, width]: k is 1, or the number of its tokens.
    """

    rows: Float32
    extras: Mapping[Extra, Sequence[Float32]] = field(default_factory=dict)

    def made_sparse(self) -> "Outcome":
        """The same without rows, but what of them is not 0."""
        found = []
        for row in self.rows:
            indices = np.flatnonzero(row)
            found.append(np.stack([indices.astype(np.int32).view(np.float32), row[indices]], axis=1))
        return Outcome(self.rows[:, :0], {**self.extras, "sparse": found})


@dataclass(frozen=True)
class Tokens:
    """One text as the model sees it: ids int32 [s], and type ids uint8 [s] where they are not all zero.
    `unpooled`: how many of its first tokens the pooling leaves out.
    """

    ids: Int32
    type_ids: UInt8 | None = None
    unpooled: int = 0

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Batch:
    """Texts padded to the longest: int32 arrays [b, s], only to be read. `pooling_mask` is the attention mask
    less what the pooling leaves out.
    """

    input_ids: Int32
    attention_mask: Int32
    token_type_ids: Int32
    pooling_mask: Int32


@dataclass(frozen=True)
class Execution:
    """How to run: the provider that was asked for (auto, cpu, cuda), the number of CPU threads, the precision
    to compute in (fp32, fp16, bf16, int8; None: the graph's own). `node`: what this machine is called.
    `gpu_bytes`: what a session's arena on a GPU may hold; None: no limit.
    """

    provider: str = "cpu"
    threads: int = 1
    precision: str | None = None
    node: str = "this machine"
    gpu_bytes: int | None = None


class Backend(Protocol):
    """Turns tokens into rows."""

    @property
    def provider(self) -> str:
        """What it really runs on: cpu or cuda. Known after `load`."""

    @property
    def precision(self) -> str:
        """What it computes in: fp32, fp16, bf16 or int8."""

    @property
    def fallback(self) -> str | None:
        """Why it does not run on the provider that was asked for. Known after `load`."""

    @property
    def grid(self) -> Grid | None:
        """The shapes that its batches should have; None where a new shape costs nothing."""

    @property
    def gives(self) -> frozenset[Extra]:
        """What `run_with` can be asked for. Known after `load`."""

    def load(self) -> None:
        """Read the graph and get it ready to run.

        A CUDA that was asked for and cannot be used is a fall-back to the CPU. Raises UnsupportedModelError,
        CorruptModelError, OutOfMemoryError.
        """

    def warm_up(self) -> int:
        """Run real inferences over the sizes that will come; returns the rows' width. Raises as `run`."""

    def run(self, texts: Sequence[Tokens]) -> Float32:
        """One row per text, float32 [b, width]: a vector, or a cross-encoder's one logit.

        Raises InternalError when the graph fails or gives something that is not finite, OutOfMemoryError.
        """

    def run_with(self, texts: Sequence[Tokens], extras: Sequence[Extra]) -> Outcome:
        """The same, and these besides. Raises as `run`, UnsupportedFieldError where the model has no such
        thing.
        """

    def close(self) -> None:
        """Give the memory back."""


def padded(texts: Sequence[Tokens], recipe: Recipe, grid: Grid | None = None) -> Batch:
    """The texts as one batch, padded on the right with the recipe's padding id, to a length of the grid."""
    longest = max(len(text) for text in texts)
    shape = (len(texts), grid.length(longest) if grid else longest)
    input_ids = np.full(shape, recipe.pad_id, dtype=np.int32)
    attention_mask = np.zeros(shape, dtype=np.int32)
    token_type_ids = np.zeros(shape, dtype=np.int32)
    for row, text in enumerate(texts):
        input_ids[row, : len(text)] = text.ids
        attention_mask[row, : len(text)] = 1
        if text.type_ids is not None:
            token_type_ids[row, : len(text)] = text.type_ids
    pooling_mask = attention_mask
    if any(text.unpooled for text in texts):
        pooling_mask = attention_mask.copy()
        for row, text in enumerate(texts):
            pooling_mask[row, : text.unpooled] = 0
    return Batch(input_ids, attention_mask, token_type_ids, pooling_mask)


def finite(rows: Float32) -> bool:
    """Whether all of float32 [b, width] are numbers: then their sum is one, which 64 bits have room for."""
    return math.isfinite(rows.sum(dtype=np.float64))
