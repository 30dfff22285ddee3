"""The ONNX Runtime backend on CUDA: what `onnx_backend` does on the CPU, and what a GPU needs besides.

Batches go through host buffers that the device reads and writes by itself, on a thread of the backend's own:
while it waits for the device the caller forms the next batch (`start`). Single texts run as CUDA graphs. What
was asked for and is not so, a GPU that cannot be used or nodes that run on the CPU, is a fall-back, which
keeps the server from becoming ready unless the settings allow it (`service/health.py`).
"""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from embedding_runtime.engine.backend import Execution, Extra, Float32, Outcome, Tokens
from embedding_runtime.engine.binding import Bound
from embedding_runtime.engine.cuda_graphs import DEVICE, Graphs, options
from embedding_runtime.engine.device import Pending
from embedding_runtime.engine.gpu import present
from embedding_runtime.engine.onnx_backend import OnnxBackend, dummy, first_line
from embedding_runtime.engine.pinned import page_locked
from embedding_runtime.engine.placement import Placed, misplaced
from embedding_runtime.engine.providers import CPU, CUDA, choose, cuda_options, no_cuda
from embedding_runtime.errors import InternalError, ProviderUnavailableError, RuntimeFault
from embedding_runtime.model.prepared import Prepared
from embedding_runtime.model.recipe import Recipe
from embedding_runtime.telemetry import logger

import onnxruntime as ort  # isort: skip  after onnx_backend, which switches its telemetry off

_log = logger("engine")

# A thread that comes back from the device waits so long for Python's lock, while the device does nothing: by
# itself Python makes it 5 ms, the time of a batch.
_SWITCH_SECONDS = 0.0005
# What ONNX Runtime says of a graph that it cannot record.
_NO_GRAPHS = ("graph capture feature", "cuda graph feature")
# Of the same text in a recorded graph and in a batch: halves, added up in another order.
_LEAST_COSINE = 0.9999


class CudaBackend(OnnxBackend):
    """One ONNX graph in one session on the first GPU; `variant`: which of the graphs that do the same."""

    def __init__(
        self, prepared: Prepared, recipe: Recipe, execution: Execution, variant: str = "lengths"
    ) -> None:
        super().__init__(prepared, recipe, execution)
        self.variant = variant
        self._captures = False
        self._graphs: Graphs | None = None
        self._bound: Callable[[], Bound] | None = None
        self._free: list[Bound] = []
        self._device: ThreadPoolExecutor | None = None

    @property
    def overlaps(self) -> bool:
        """Whether `start` comes back before the rows are there."""
        return self._bound is not None

    def load(self) -> None:
        """See Backend. After `close` once more, where several ways to run a graph were compared."""
        self._device = ThreadPoolExecutor(1, thread_name_prefix="cuda")
        super().load()
        if self._provider == CUDA:
            sys.setswitchinterval(_SWITCH_SECONDS)

    def _create(self) -> ort.InferenceSession:
        try:
            choose(self._execution.provider, ort.get_available_providers())
            with DEVICE.together():
                return self._on_the_gpu()
        except ProviderUnavailableError as error:
            self._provider = CPU
            if self._execution.provider == "cuda" or present():
                self._fallback = error.message
                _log.warning("CUDA requested but not available, falling back to CPU", reason=error.message)
            else:
                _log.info("running on the CPU", reason=error.message)
            return super()._create()

    def _on_the_gpu(self) -> ort.InferenceSession:
        ort.preload_dlls()
        self._provider = CUDA
        try:
            # Where padding is taken out the device is waited for in the middle of a run.
            graphs = not self._prepared.plain and self.variant != "packed"
            session = self._session_with(graphs=graphs)
        except Exception as error:
            raise self._out_of_memory(error) or ProviderUnavailableError(
                no_cuda(first_line(error))
            ) from error
        if session.get_providers()[0] != CUDA:
            # ONNX Runtime itself only warns here, and would run 50 times slower without a word.
            raise ProviderUnavailableError(no_cuda("the CUDA provider could not be initialised"))
        nodes = _placed(session)
        _log.info(
            "the graph's nodes",
            cuda=sum(each.provider == CUDA for each in nodes),
            cpu=sum(each.provider == CPU for each in nodes),
            fused_attention=sum(each.kind.endswith("MultiHeadAttention") for each in nodes),
            variant=self.variant,
        )
        self._fallback = misplaced(nodes)
        if self._fallback:
            _log.warning("a part of the model runs on the CPU", reason=self._fallback)
        return session

    def _session_with(self, *, graphs: bool) -> ort.InferenceSession:
        """A session, one that can record CUDA graphs if it can."""
        try:
            self._captures = graphs
            return self._opened([(CUDA, cuda_options(self._execution.gpu_bytes, graphs=graphs)), CPU])
        except Exception as error:
            if not graphs or not any(words in str(error).lower() for words in _NO_GRAPHS):
                raise
            _log.info("single texts run without CUDA graphs", reason=first_line(error))
            return self._session_with(graphs=False)

    def _options(self) -> ort.SessionOptions:
        found = super()._options()
        found.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        return found

    def warm_up(self) -> int:
        """One short text and one of the longest; then, on the GPU, the buffers and the recorded graphs."""
        width = super().warm_up()
        if self._provider == CUDA and not self._prepared.plain and not self._alone:
            host = page_locked()
            if self._captures:
                self._on_device(lambda: self._record(width))
            self._bound = lambda: Bound(self._session, self._inputs, self._output, width, host)
        return width

    def _record(self, width: int) -> None:
        """Have graphs for single texts, unless they cannot be recorded or give something else."""
        graphs = Graphs(self._session, self._inputs, self._output, width, self._recipe)
        try:
            graphs.record()
            for length in (text for text in (5, 30, 100) if text <= self._recipe.max_tokens):
                text = dummy(length)
                chosen = graphs.length([text])
                if chosen is not None and not _alike(graphs.run(chosen, text), self._ran([text])):
                    raise InternalError(f"the graph of {chosen} tokens gives other rows")
        except Exception as error:
            if (fault := self._out_of_memory(error)) is not None:
                raise fault from error
            _log.warning("single texts run without CUDA graphs", reason=first_line(error))
        else:
            self._graphs = graphs

    def start(self, texts: Sequence[Tokens]) -> Pending:
        """Begin a batch; what comes back waits for its rows, float32 [b, width]. Both raise as `run`."""
        if self._bound is None:
            rows = self.run(texts)
            return lambda: rows
        if self._graphs and (length := self._graphs.length(texts)) is not None:
            graphs, chosen = self._graphs, length
            return self._begun(lambda: graphs.run(chosen, texts[0]))
        bound = self._free.pop() if self._free else self._bound()
        try:
            with DEVICE.together():
                bound.put(texts, self._recipe)
        except Exception as error:
            raise self._failure(error) from error
        return self._begun(lambda: self._computed(bound))

    def run(self, texts: Sequence[Tokens]) -> Float32:
        """See Backend."""
        if self._bound is None:
            rows: Float32 = self._on_device(lambda: self._ran(texts))
            return rows
        return self.start(texts)()

    def run_with(self, texts: Sequence[Tokens], extras: Sequence[Extra]) -> Outcome:
        """See Backend. Without buffers of its own, since it is seldom asked for."""

        def together() -> Outcome:
            with DEVICE.together():
                return super(CudaBackend, self).run_with(texts, extras)

        outcome: Outcome = self._on_device(together)
        return outcome

    def shrink(self) -> None:
        """Give back what the session's arena holds and does not use."""
        if self._provider == CUDA:
            self._on_device(lambda: self._shrunk())

    def close(self) -> None:
        """See Backend."""
        with DEVICE.together():  # what frees memory would end another model's recording
            self._bound = self._graphs = None
            self._free.clear()
            super().close()
        if self._device is not None:
            self._device.shutdown(wait=False)
            self._device = None

    def _ran(self, texts: Sequence[Tokens]) -> Float32:
        """As on the CPU: without buffers of its own."""
        if self._alone and len(texts) > 1:
            return np.concatenate([self._ran([text]) for text in texts])
        with DEVICE.together():
            return super().run(texts)

    def _computed(self, bound: Bound) -> Float32:
        bound.run(self._run_options())
        rows = bound.rows.copy()
        self._free.append(bound)
        return rows

    def _shrunk(self) -> None:
        if self._session is None:
            return
        wanted = self._run_options() or ort.RunOptions()
        wanted.add_run_config_entry("memory.enable_memory_arena_shrinkage", "gpu:0")
        feed = {name: np.ones((1, 8), dtype=kind) for name, kind in self._inputs.items()}
        try:
            with DEVICE.together():
                self._session.run([self._output], feed, wanted)
        except Exception as error:
            _log.info("the arena was not shrunk", reason=first_line(error))

    def _run_options(self) -> ort.RunOptions | None:
        return options() if self._captures else None

    def _begun(self, compute: Callable[[], Float32]) -> Pending:
        """Compute on the backend's own thread."""

        def checked() -> Float32:
            with DEVICE.together():
                rows = compute()
            if not np.isfinite(rows).all():
                raise InternalError("the model gave values that are not finite numbers")
            return rows

        future = self._thread.submit(checked)

        def rows() -> Float32:
            try:
                return future.result()
            except RuntimeFault:
                raise
            except Exception as error:
                raise self._failure(error) from error

        return rows

    def _on_device(self, function: Callable[[], Any]) -> Any:
        """Do something on the backend's own thread, and wait for it."""
        return self._thread.submit(function).result()

    @property
    def _thread(self) -> ThreadPoolExecutor:
        if self._device is None:
            raise InternalError("the model is not loaded")
        return self._device


def _placed(session: ort.InferenceSession) -> list[Placed]:
    """Where the session's nodes run, by its own account."""
    return [
        Placed(node.name, node.op_type, part.ep_name)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    ]


def _alike(rows: Float32, wanted: Float32) -> bool:
    lengths = np.linalg.norm(rows) * np.linalg.norm(wanted)
    close = np.abs(rows - wanted).max() <= 1e-3
    return bool(close or (rows * wanted).sum() >= _LEAST_COSINE * lengths)
