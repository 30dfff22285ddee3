"""The OpenVINO backend: x86 CPUs, in 32 bits or bf16. The only module that imports openvino, an optional
dependency: without the package importing this raises ImportError, so nothing does unless `choice` found it.

Why beside ONNX Runtime: its kernels are faster on many CPUs, and it alone computes in bf16 there
(docs/performance.md, "Precision").
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# ruff: noqa: E402  what must not be imported has to be named before
# For each new shape primitives are compiled and kept: 1,024 of them here and 5,000 by the option below, which
# held 0.8 MB more with each new shape of all-MiniLM-L6-v2. These are enough for the shapes that come often.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "512")
# The package brings another that reports usage to its maker; without it it has a stand-in that does nothing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino

from embedding_runtime.engine.backend import Batch, Execution, Extra, Float32, Outcome, Tokens, padded
from embedding_runtime.engine.ending import Ending
from embedding_runtime.engine.extras import checked, from_own_graph
from embedding_runtime.engine.grid import Grid
from embedding_runtime.engine.memory import give_back
from embedding_runtime.engine.pooling import normalize
from embedding_runtime.engine.providers import CPU, out_of_memory
from embedding_runtime.errors import InternalError, OutOfMemoryError, RuntimeFault, UnsupportedModelError
from embedding_runtime.model.derived import Derived
from embedding_runtime.model.outputs import INPUTS, POOLING, choose_output, unknown_input
from embedding_runtime.model.prepared import LOGITS, NORM, TOKENS, VECTOR, Prepared
from embedding_runtime.model.recipe import Recipe

_DEVICE = "CPU"
# What the device calls the precisions, and what it lists where the CPU has instructions for them.
_HINTS = {"fp32": "f32", "bf16": "bf16"}
_CAPABILITIES = {"FP32": "fp32", "BF16": "bf16"}
_OUT_OF_MEMORY_SECONDS = 5.0


def precisions() -> frozenset[str]:
    """What this CPU can compute in through OpenVINO: fp32, and bf16 where it has AVX512-BF16 or AMX."""
    found = openvino.Core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    return frozenset(_CAPABILITIES[each] for each in found if each in _CAPABILITIES)


class OpenVinoBackend:
    """One graph, compiled for this CPU."""

    def __init__(self, prepared: Prepared, recipe: Recipe, execution: Execution, precision: str) -> None:
        self._prepared, self._recipe, self._execution = prepared, recipe, execution
        self._precision = precision
        self._grid = Grid(recipe.max_tokens)
        self._ending = Ending(recipe, prepared.repository)
        self._request: openvino.InferRequest | None = None
        self._second: openvino.InferRequest | None = None
        self._inputs: dict[str, np.dtype[Any]] = {}
        self._derived: list[tuple[Derived, np.dtype[Any]]] = []
        self._gives_tokens = self._normalizes = self._has_tokens = False

    @property
    def provider(self) -> str:
        """`openvino`."""
        return "openvino"

    @property
    def precision(self) -> str:
        """fp32 or bf16."""
        return self._precision

    @property
    def fallback(self) -> str | None:
        """None: it runs on OpenVINO or not at all."""
        return None

    @property
    def grid(self) -> Grid:
        """Few shapes, so that what was compiled for one is found again."""
        return self._grid

    @property
    def gives(self) -> frozenset[Extra]:
        """The lengths, where there are vectors, and the tokens' vectors, where the graph has them."""
        if self._recipe.task == "rerank":
            return frozenset()
        return frozenset({"norm", "tokens"} if self._gives_tokens or self._has_tokens else {"norm"})

    def load(self) -> None:
        """Compile the graph; see Backend."""
        self._request = self._compiled(self._reduced)

    def _compiled(self, reduced: Callable[[openvino.Model], openvino.Model]) -> openvino.InferRequest:
        """A request for what is left of the graph. Raises as `load`."""
        core = openvino.Core()
        try:
            model = reduced(core.read_model(self._prepared.path))
            return core.compile_model(model, _DEVICE, self._options()).create_infer_request()
        except RuntimeFault:
            raise
        except Exception as error:  # RuntimeError, with a page of C++ files and lines
            raise self._out_of_memory(error) or UnsupportedModelError(
                f"OpenVINO cannot load {self._prepared.path.name}: {_cause(error)}"
            ) from error

    def _reduced(self, model: openvino.Model) -> openvino.Model:
        """The model with the one output that is wanted; what nothing else needs is not computed."""
        for port in model.inputs:
            name, kind = _name(port), port.get_element_type()
            shape = [each.get_length() if each.is_static else None for each in port.get_partial_shape()]
            if name in (*INPUTS, POOLING) and kind in (openvino.Type.i32, openvino.Type.i64):
                self._inputs[name] = kind.to_dtype()
            elif derived := Derived.of(name, shape):
                self._derived.append((derived, kind.to_dtype()))
            else:
                raise unknown_input(name, kind.get_type_name())
        ports = {_name(port): port for port in model.outputs}
        self._has_tokens = not self._prepared.plain and TOKENS in ports
        if self._prepared.plain:
            ranks = {name: port.get_partial_shape().rank.get_length() for name, port in ports.items()}
            name, self._gives_tokens = choose_output(ranks, self._recipe)
        elif self._precision == "bf16" and TOKENS in ports:
            # What is pooled in 8 significant bits moves three times as much with its company as what is not.
            name, self._gives_tokens = TOKENS, True
        else:
            name = VECTOR if self._recipe.task == "embed" else LOGITS
        self._normalizes = self._recipe.normalize and (self._prepared.plain or self._gives_tokens)
        return openvino.Model([ports[name].get_node()], model.get_parameters(), "served")

    def _unmade(self, model: openvino.Model) -> openvino.Model:
        """A prepared model that gives what vectors are made of: token vectors, or rows and their lengths."""
        ports = {_name(port): port for port in model.outputs}
        names = [TOKENS] if TOKENS in ports else [VECTOR, NORM]
        return openvino.Model([ports[name].get_node() for name in names], model.get_parameters(), "unmade")

    def _options(self) -> dict[str, Any]:
        return {
            # fp32 means fp32: the device's own default is bf16 where the CPU has it.
            "INFERENCE_PRECISION_HINT": _HINTS[self._precision],
            # Scales by group of activations, which it would use for weights that are compressed.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            "INFERENCE_NUM_THREADS": self._execution.threads,
            "NUM_STREAMS": 1,
            "CPU_RUNTIME_CACHE_CAPACITY": 256,
            # Pods share their node's CPUs: threads that are bound to one wait behind a neighbour's.
            "ENABLE_CPU_PINNING": False,
        }

    def warm_up(self) -> int:
        """One short text, then one of the longest; see Backend."""
        width = self.run([_dummy(8)]).shape[1]
        self.run([_dummy(self._recipe.max_tokens)])
        return int(width)

    def run(self, texts: Sequence[Tokens]) -> Float32:
        """See Backend."""
        batch = padded(texts, self._recipe, self._grid)
        rows = self._infer(self._request, batch)[0]
        if self._gives_tokens:
            rows = self._ending.rows(rows, batch.pooling_mask)
        if self._normalizes:
            rows = normalize(rows)
        # The output is the request's own memory, which the next inference overwrites.
        return checked(rows).copy()

    def run_with(self, texts: Sequence[Tokens], extras: Sequence[Extra]) -> Outcome:
        """See Backend."""
        batch = padded(texts, self._recipe, self._grid)
        if self._gives_tokens or self._prepared.plain:
            found = self._infer(self._request, batch)
        else:
            # Compiled when it is first wanted: it takes the memory of the weights once more.
            self._second = self._second or self._compiled(self._unmade)
            found = self._infer(self._second, batch)
        ending = self._ending if found[0].ndim == 3 else None
        output = found[0].copy() if len(found) == 1 else found[0] * found[1][:, None]
        return from_own_graph(output, batch, ending, extras, normalizes=self._recipe.normalize)

    def _infer(self, request: openvino.InferRequest | None, batch: Batch) -> list[Float32]:
        """The request's outputs, in its own memory. Raises as `run`."""
        if request is None:
            raise InternalError("the model is not loaded")
        feed = {name: getattr(batch, name).astype(kind, copy=False) for name, kind in self._inputs.items()}
        feed |= {each.name: each.array(batch.attention_mask, kind) for each, kind in self._derived}
        try:
            return list(request.infer(feed, share_inputs=True, share_outputs=True).values())
        except Exception as error:
            raise self._out_of_memory(error) or InternalError(f"OpenVINO failed: {_cause(error)}") from error

    def close(self) -> None:
        """See Backend."""
        self._request = self._second = None
        give_back()

    def _out_of_memory(self, error: Exception) -> RuntimeFault | None:
        message = out_of_memory(_cause(error), CPU)
        return OutOfMemoryError(message, retry_after=_OUT_OF_MEMORY_SECONDS) if message else None


def _name(port: Any) -> str:
    return str(port.get_any_name())


def _dummy(length: int) -> Tokens:
    return Tokens(np.ones(length, dtype=np.int32))


def _cause(error: Exception) -> str:
    """The line that says what happened: the others tell where in OpenVINO's sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (told or lines or [type(error).__name__])[-1][:300]
