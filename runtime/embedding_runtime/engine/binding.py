"""A session's inputs and outputs in host buffers that stay, which its device reads and writes by itself.

The same on every execution provider: on a CPU the session computes in these buffers, on a GPU they are copied
over when they are bound, and back at the end of a run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedding_runtime.engine.backend import Float32, Tokens
from embedding_runtime.engine.pinned import Host
from embedding_runtime.model.recipe import Recipe

# Lengths are made multiples of this: matrix units take 8 halves at a time.
MULTIPLE = 8


def bucket(longest: int, most: int) -> int:
    """The length to pad a batch to whose longest text has so many tokens, `most` being the model's limit."""
    return max(longest, min(most, -(-longest // MULTIPLE) * MULTIPLE))


def fill(texts: Sequence[Tokens], recipe: Recipe, inputs: Mapping[str, NDArray[np.generic]]) -> None:
    """Write texts into the inputs that there are, each integers [b, s], padded on the right."""
    for name, array in inputs.items():
        array[...] = recipe.pad_id if name == "input_ids" else 0
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    types, pooled = inputs.get("token_type_ids"), inputs.get("pooling_mask")
    for row, text in enumerate(texts):
        if ids is not None:
            ids[row, : len(text)] = text.ids
        if mask is not None:
            mask[row, : len(text)] = 1
        if types is not None and text.type_ids is not None:
            types[row, : len(text)] = text.type_ids
        if pooled is not None:
            pooled[row, text.unpooled : len(text)] = 1


class Bound:
    """One batch at a time: `put` it in, `run` it, take its `rows`; they hold until the next `put`.

    `inputs`: the session's, and what they hold. `output`: float32 [b, width]. `host` gives the buffers.
    """

    def __init__(
        self, session: Any, inputs: Mapping[str, type[np.generic]], output: str, width: int, host: Host
    ) -> None:
        self._session, self._inputs, self._output, self._width = session, inputs, output, width
        self._host = host
        self._binding = session.io_binding()
        self._blocks: dict[str, NDArray[np.uint8]] = {}
        self._rows: Float32 = np.empty((0, width), dtype=np.float32)

    def put(self, texts: Sequence[Tokens], recipe: Recipe) -> None:
        """Pad a batch into the buffers and bind them. Raises what ONNX Runtime raises."""
        shape = len(texts), bucket(max(map(len, texts)), recipe.max_tokens)
        arrays = {name: self._array(name, shape, kind) for name, kind in self._inputs.items()}
        fill(texts, recipe, arrays)
        for name, array in arrays.items():
            self._binding.bind_cpu_input(name, array)
        self._rows = self._array(self._output, (len(texts), self._width), np.float32)
        self._binding.bind_output(
            self._output, "cpu", 0, np.float32, self._rows.shape, self._rows.ctypes.data
        )

    def run(self, options: Any = None) -> None:
        """Compute what was put in. Raises what ONNX Runtime raises."""
        self._session.run_with_iobinding(self._binding, options)

    @property
    def rows(self) -> Float32:
        """The rows of the batch, in the buffer."""
        return self._rows

    def _array(self, name: str, shape: tuple[int, int], kind: type[Any]) -> NDArray[Any]:
        """A part of the buffer of that name, which makes way for a larger one where it is too small."""
        size = shape[0] * shape[1] * np.dtype(kind).itemsize
        block = self._blocks.get(name)
        if block is None or block.nbytes < size:
            block = self._blocks[name] = self._host(1 << (size - 1).bit_length())
        array: NDArray[Any] = block[:size].view(kind).reshape(shape)
        return array
