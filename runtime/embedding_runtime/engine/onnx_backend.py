"""The ONNX Runtime backend on the CPU, and what that on CUDA (`cuda_backend`) has in common with it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# ONNX Runtime's builds report usage to their maker unless this is set before they are imported:
# disable_telemetry_events() comes too late, a thread and a file in TMPDIR are there by then.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

from embedding_runtime.engine.backend import Batch, Execution, Extra, Float32, Outcome, Tokens, padded
from embedding_runtime.engine.ending import Ending
from embedding_runtime.engine.extras import by_text, checked, from_own_graph, joined, no_such
from embedding_runtime.engine.memory import give_back
from embedding_runtime.engine.pooling import normalize
from embedding_runtime.engine.providers import CPU, CUDA, out_of_memory
from embedding_runtime.errors import (
    CorruptModelError,
    InternalError,
    OutOfMemoryError,
    RuntimeFault,
)
from embedding_runtime.model.derived import Derived
from embedding_runtime.model.graph import read_facts
from embedding_runtime.model.outputs import INPUTS, POOLING, choose_output, unknown_input
from embedding_runtime.model.prepared import LOGITS, NORM, TOKENS, VECTOR, Prepared
from embedding_runtime.model.recipe import Recipe

_DTYPES: dict[str, type[np.generic]] = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
}
_INTEGERS = frozenset({np.int64, np.int32})

_OUT_OF_MEMORY_SECONDS = 5.0

SLOWER_ON_CPU = ("SkipLayerNormFusion",)
"""ONNX Runtime's optimisers whose result takes longer on a CPU: an addition and a normalisation take a sixth
of the time of the one operator that they are fused into, which takes a tenth of a model's."""


def open_session(
    path: Path, options: ort.SessionOptions, providers: Sequence[str | tuple[str, dict[str, str]]] = (CPU,)
) -> ort.InferenceSession:
    """A session of the graph at `path`, with what is fused for these providers.

    Raises what ONNX Runtime raises.
    """
    slower = SLOWER_ON_CPU if tuple(providers) == (CPU,) else ()
    # Without its own fall-back: it would print to stdout and run on the CPU whatever was wrong.
    return ort.InferenceSession(
        str(path), options, list(providers), enable_fallback=0, disabled_optimizers=slower
    )


def usable_providers() -> list[str]:
    """The execution providers of this build of ONNX Runtime."""
    return list(ort.get_available_providers())


class OnnxBackend:
    """One ONNX graph in one session."""

    def __init__(self, prepared: Prepared, recipe: Recipe, execution: Execution) -> None:
        self._prepared, self._recipe, self._execution = prepared, recipe, execution
        self._session: ort.InferenceSession | None = None
        self._ending = Ending(recipe, prepared.repository)
        self._provider = CPU
        self._fallback: str | None = None
        self._inputs: dict[str, type[np.generic]] = {}
        self._derived: list[tuple[Derived, np.dtype[Any]]] = []
        self._output = ""
        self._gives_tokens = False
        self._has: frozenset[str] = frozenset()
        self._alone = False

    @property
    def provider(self) -> str:
        """`cpu` or `cuda`, as the session says."""
        return "cuda" if self._provider == CUDA else "cpu"

    @property
    def precision(self) -> str:
        """That of the graph."""
        return self._prepared.precision

    @property
    def fallback(self) -> str | None:
        """Why it runs on the CPU although CUDA was asked for."""
        return self._fallback

    @property
    def grid(self) -> None:
        """None: any shape runs as fast the first time."""

    @property
    def gives(self) -> frozenset[Extra]:
        """The lengths, where there are vectors, and the tokens' vectors, where the graph has them."""
        if self._recipe.task == "rerank":
            return frozenset()
        has_tokens = self._gives_tokens if self._prepared.plain else TOKENS in self._has
        return frozenset({"norm", "tokens"} if has_tokens else {"norm"})

    def load(self) -> None:
        """Create the session and find out what goes in and what comes out; see Backend."""
        self._session = self._create()
        self._inputs, self._derived = inputs_of(self._session)
        self._has = frozenset(entry.name for entry in self._session.get_outputs())
        if self._prepared.plain:
            ranks = {entry.name: len(entry.shape) for entry in self._session.get_outputs()}
            self._output, self._gives_tokens = choose_output(ranks, self._recipe)
        else:
            self._output = VECTOR if self._recipe.task == "embed" else LOGITS
        # A text's row must not depend on its company: where it would, each text is computed alone.
        self._alone = read_facts(self._prepared.path).scaled_by_batch

    def _create(self) -> ort.InferenceSession:
        try:
            return self._opened((CPU,))
        except Exception as error:
            raise self._out_of_memory(error) or CorruptModelError(
                f"ONNX Runtime cannot load {self._prepared.path.name}: {first_line(error)}"
            ) from error

    def _opened(self, providers: Sequence[str | tuple[str, dict[str, str]]]) -> ort.InferenceSession:
        return open_session(self._prepared.path, self._options(), providers)

    def _options(self) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._execution.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that sleep between two operators cost a third of a single text's time. After a run they do
        # sleep: spinning then would take the CPU from the HTTP processes, and from the neighbours of a pod.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # Every batch has another shape: remembered plans for shapes that never come again only hold memory.
        options.enable_mem_pattern = False
        return options

    def warm_up(self) -> int:
        """One short text, then one of the longest; see Backend."""
        width = self.run([dummy(8)]).shape[1]
        self.run([dummy(self._recipe.max_tokens)])
        return int(width)

    def run(self, texts: Sequence[Tokens]) -> Float32:
        """See Backend."""
        if self._alone and len(texts) > 1:
            return np.concatenate([self.run([text]) for text in texts])
        batch = padded(texts, self._recipe)
        (output,) = self._outputs([self._output], batch)
        rows = self._ending.rows(output, batch.pooling_mask) if self._gives_tokens else output
        if self._prepared.plain and self._recipe.normalize:
            rows = normalize(rows)
        return checked(rows)

    def run_with(self, texts: Sequence[Tokens], extras: Sequence[Extra]) -> Outcome:
        """See Backend."""
        if self._alone and len(texts) > 1:
            return joined([self.run_with([text], extras) for text in texts])
        batch = padded(texts, self._recipe)
        if self._prepared.plain:
            (output,) = self._outputs([self._output], batch)
            ending = self._ending if self._gives_tokens else None
            return from_own_graph(output, batch, ending, extras, normalizes=self._recipe.normalize)
        names = {"norm": NORM, "tokens": TOKENS}
        if missing := [name for name in extras if names[name] not in self._has]:
            raise no_such(missing[0])
        rows, *found = self._outputs([self._output, *(names[name] for name in extras)], batch)
        parts = dict(zip(extras, found, strict=True))
        return Outcome(checked(rows), by_text(parts, batch))

    def _outputs(self, names: Sequence[str], batch: Batch) -> list[Float32]:
        """These outputs of the graph for a batch, as float32. Raises as `run`."""
        if self._session is None:
            raise InternalError("the model is not loaded")
        feed = {name: getattr(batch, name).astype(kind, copy=False) for name, kind in self._inputs.items()}
        feed |= {each.name: each.array(batch.attention_mask, kind) for each, kind in self._derived}
        try:
            found = self._session.run(names, feed, self._run_options())
        except Exception as error:
            raise self._failure(error) from error
        return [output.astype(np.float32, copy=False) for output in found]

    def _run_options(self) -> ort.RunOptions | None:
        return None

    def close(self) -> None:
        """See Backend."""
        self._session = None
        give_back()

    def _failure(self, error: Exception) -> RuntimeFault:
        """What a run that ended so is told as."""
        return self._out_of_memory(error) or InternalError(f"ONNX Runtime failed: {first_line(error)}")

    def _out_of_memory(self, error: Exception) -> RuntimeFault | None:
        message = out_of_memory(str(error), self._provider)
        return OutOfMemoryError(message, retry_after=_OUT_OF_MEMORY_SECONDS) if message else None


def inputs_of(
    session: ort.InferenceSession,
) -> tuple[dict[str, type[np.generic]], list[tuple[Derived, np.dtype[Any]]]]:
    """A session's inputs: those that a batch is, and those that follow from it, with their types.

    Raises UnsupportedModelError for any other.
    """
    types: dict[str, type[np.generic]] = {}
    others = []
    for entry in session.get_inputs():
        kind = _DTYPES.get(entry.type)
        derived = Derived.of(entry.name, entry.shape)
        if kind in _INTEGERS and entry.name in (*INPUTS, POOLING):
            types[entry.name] = kind
        elif kind is not None and derived is not None:
            others.append((derived, np.dtype(kind)))
        else:
            raise unknown_input(entry.name, entry.type)
    return types, others


def dummy(length: int) -> Tokens:
    """A text of so many tokens, for measuring."""
    return Tokens(np.ones(length, dtype=np.int32))


def first_line(error: Exception) -> str:
    """What an error of ONNX Runtime says, without where in its sources."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
