"""CUDA graphs for single texts: what one run launches on the device, recorded once and launched in one call.

A graph belongs to a shape, to addresses and to the thread that recorded it (ONNX Runtime keeps them by
thread), so there is one for each of a few lengths, with inputs and an output that stay on the device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embedding_runtime.engine.backend import Float32, Tokens
from embedding_runtime.engine.binding import fill
from embedding_runtime.engine.gate import Gate
from embedding_runtime.model.recipe import Recipe

import embedding_runtime.engine.onnx_backend  # noqa: F401  isort: skip

import onnxruntime as ort  # isort: skip  after onnx_backend, which switches its telemetry off

# A single text is padded to the next of these; a longer one runs as a batch does.
LENGTHS = (16, 32, 64, 128, 256)
# ONNX Runtime runs a graph twice before it records it, and launches the record from then on.
_RUNS = 4
# Each names its graph by a number; with this one nothing is recorded.
_GRAPH, NO_GRAPH = "gpu_graph_id", "-1"

# Nothing else may use the device while a graph is being recorded.
DEVICE = Gate()


def options(graph: str = NO_GRAPH) -> ort.RunOptions:
    """The options of a run that records or launches the graph with this number, or none."""
    found = ort.RunOptions()
    found.add_run_config_entry(_GRAPH, graph)
    return found


@dataclass(frozen=True)
class _Recorded:
    length: int
    inputs: Mapping[str, Any]
    output: Any
    binding: Any
    options: ort.RunOptions


class Graphs:
    """The graphs of one session. Everything but `length` has to be called on the same thread.

    `device`: where the values stay; on `cpu` nothing is recorded, and the rest is the same.
    """

    def __init__(
        self,
        session: Any,
        inputs: Mapping[str, type[np.generic]],
        output: str,
        width: int,
        recipe: Recipe,
        device: str = "cuda",
    ) -> None:
        self._session, self._recipe, self._kinds = session, recipe, inputs
        self._output, self._width, self._device = output, width, device
        self._recorded: dict[int, _Recorded] = {}

    def record(self) -> None:
        """Record a graph for each length that the model takes. Raises what ONNX Runtime raises."""
        for number, length in enumerate(LENGTHS, start=1):
            if length > self._recipe.max_tokens:
                break
            graph = self._laid_out(length, str(number))
            with DEVICE.alone():
                for _ in range(_RUNS):
                    self._session.run_with_iobinding(graph.binding, graph.options)
            self._recorded[length] = graph

    def length(self, texts: Sequence[Tokens]) -> int | None:
        """The length of the graph for these texts; None where there is none."""
        if len(texts) != 1:
            return None
        return next((length for length in self._recorded if length >= len(texts[0])), None)

    def run(self, length: int, text: Tokens) -> Float32:
        """The text's row, float32 [1, width], by the graph of this length. Raises what ONNX Runtime does."""
        graph = self._recorded[length]
        arrays = {name: np.empty((1, length), dtype=kind) for name, kind in self._kinds.items()}
        fill([text], self._recipe, arrays)
        for name, array in arrays.items():
            graph.inputs[name].update_inplace(array)
        self._session.run_with_iobinding(graph.binding, graph.options)
        rows: Float32 = graph.output.numpy()
        return rows

    def _laid_out(self, length: int, number: str) -> _Recorded:
        inputs = {
            name: ort.OrtValue.ortvalue_from_numpy(np.ones((1, length), dtype=kind), self._device, 0)
            for name, kind in self._kinds.items()
        }
        output = ort.OrtValue.ortvalue_from_numpy(
            np.zeros((1, self._width), dtype=np.float32), self._device, 0
        )
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_ortvalue_output(self._output, output)
        return _Recorded(length, inputs, output, binding, options(number))
