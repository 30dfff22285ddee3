"""How a model gets from its name into a backend: find or fetch, read, load, warm up."""

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from weakref import WeakKeyDictionary

from embedding_runtime import metrics
from embedding_runtime.engine.backend import Backend, Execution
from embedding_runtime.engine.calibration import Calibration, calibrate, clock_of
from embedding_runtime.engine.choice import candidates, computed_here
from embedding_runtime.engine.device import OnDevice
from embedding_runtime.engine.gpu import Gpu
from embedding_runtime.engine.kept import kept
from embedding_runtime.engine.machine import identity
from embedding_runtime.engine.onnx_backend import usable_providers
from embedding_runtime.engine.probes import fault
from embedding_runtime.engine.providers import CUDA
from embedding_runtime.engine.threads import cpu_limit, thread_count
from embedding_runtime.engine.trial import trial
from embedding_runtime.errors import (
    CorruptModelError,
    InternalError,
    ModelError,
    PrecisionUnavailableError,
)
from embedding_runtime.model.obtain import Access, acquire
from embedding_runtime.model.precision import computed_in
from embedding_runtime.model.prepared import Prepared, Target
from embedding_runtime.model.recipe import Recipe
from embedding_runtime.model.source import ModelSource
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.pulse import Pulse
from embedding_runtime.service.preparation import instead, prepare
from embedding_runtime.service.state import ModelCard
from embedding_runtime.settings import ServeSettings
from embedding_runtime.telemetry import logger

_log = logger("loading")

# A session may take minutes to build, with the interpreter's lock held all that time.
_BUILD_SECONDS = 600.0
# Of one batch of a sparse model, which has a number for each token and each word that it knows: 125 MB with
# BERT's vocabulary.
_SPARSE_TOKENS = 1024


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to run: what its batches cost, and how long session and first inferences took."""

    backend: Backend
    card: ModelCard
    costs: Calibration
    seconds: float


class OnnxLoading:
    """Loads models as the settings say."""

    def __init__(self, settings: ServeSettings, pulse: Pulse, gpu: Gpu) -> None:
        self._access = Access(
            settings.cache_dir, settings.hf_endpoint, settings.token, settings.hf_hub_offline
        )
        threads = thread_count(settings.ort_num_threads, cpu_limit())
        self._prepared_dirs = settings.prepared_dirs
        node = settings.node_name or platform.node()
        self._execution = Execution(settings.ort_execution_provider, threads, node=node)
        self._precision = settings.model_precision
        self._pulse, self._gpu = pulse, gpu
        self._gpu_limit = settings.gpu_memory_limit_bytes
        self._on_gpu: WeakKeyDictionary[Backend, int] = WeakKeyDictionary()
        self._cuda = self._execution.provider in ("auto", "cuda") and CUDA in usable_providers()

    def fetch(self, wanted: Wanted) -> ModelSource:
        """Find or fetch the model's files and read them.

        Raises ModelError, CacheError; HubError is worth another try.
        """
        source = acquire(wanted.computed_in(self._precision), self._access, lambda _had, _total: None)
        if source.recipe.assumed and source.recipe.task == "embed":
            _log.warning(
                "no modules.json: pooled as sentence-transformers does then, not normalised",
                model=source.id,
            )
        return source

    def build(self, wanted: Wanted, source: ModelSource) -> Loaded:
        """Load the model and run real inferences.

        Raises ModelError, InternalError, OutOfMemoryError.
        """
        started, memory = time.monotonic(), self._memory()
        asked = wanted.computed_in(self._precision).precision
        precision = computed_here(asked, source.precision, self._no_gpu(), self._execution.node)
        target = Target.of(source, precision)
        prepared = prepare(source, target, self._prepared_dirs)
        if asked == "auto" and prepared.plain:
            precision = asked  # it could not be prepared, and nobody insists
        execution = replace(
            self._execution, precision=computed_in(precision, source.precision), gpu_bytes=self._gpu_room()
        )
        with self._pulse.building(_BUILD_SECONDS):
            try:
                backend, width, costs = self._ran(prepared, source.recipe, execution)
            except (CorruptModelError, InternalError, PrecisionUnavailableError) as error:
                insisted = asked != "auto" and isinstance(error, PrecisionUnavailableError)
                if prepared.plain or insisted:
                    raise
                other = instead(source, target, error.message, self._prepared_dirs)
                if other is None:
                    raise
                # It passed its check, and still this machine makes something else of it.
                _log.warning("the prepared graph does not run", model=source.id, error=error.message)
                prepared = other
                execution = replace(execution, precision=computed_in(asked, source.precision))
                backend, width, costs = self._ran(prepared, source.recipe, execution)
        seconds = time.monotonic() - started
        device = "cuda" if backend.provider == "cuda" else "cpu"
        held = max(source.bytes, self._memory()[device] - memory[device])
        if device == "cuda":
            self._on_gpu[backend] = held
        card = ModelCard.of(source, prepared, backend, width, memory_bytes=held)
        _log_ready(wanted, source, card, seconds)
        return Loaded(backend, card, costs, seconds)

    def _no_gpu(self) -> str | None:
        """Why nothing runs on a GPU here; None where it does."""
        if not self._cuda:
            return "it has no GPU to compute on, or was not asked to use one"
        why = trial(CUDA)
        return None if why is None else f"its GPU cannot be used: {why}"

    def _gpu_room(self) -> int | None:
        """What the next model may take on the GPU: the limit less what those hold that are still loaded."""
        if self._gpu_limit is None:
            return None
        return max(1, self._gpu_limit - sum(self._on_gpu.values()))

    def _ran(
        self, prepared: Prepared, recipe: Recipe, execution: Execution
    ) -> tuple[Backend, int, Calibration]:
        """A backend that has run, the width of its rows, and what its batches cost. Raises as `build`."""
        found = candidates(prepared, recipe, execution)
        backend = self._fastest(found, prepared, recipe) if len(found) > 1 else found[0]
        return backend, *self._ready(backend, prepared, recipe)

    def _ready(self, backend: Backend, prepared: Prepared, recipe: Recipe) -> tuple[int, Calibration]:
        """Load a backend and check it; its rows' width, and what batches cost: as it was measured on this
        kind of machine, or measured now.
        """
        try:
            backend.load()
            width = backend.warm_up()
            self._check(backend, prepared, recipe)
            clock = clock_of(backend.provider, self._execution.threads)
            most = _SPARSE_TOKENS if recipe.kind == "sparse" else None
            costs = kept(
                self._prepared_dirs,
                self._key(backend, prepared),
                lambda: calibrate(backend, recipe.max_tokens, clock=clock, most=most),
            )
            return width, costs
        except BaseException:
            backend.close()
            raise

    def _fastest(self, found: Sequence[Backend], prepared: Prepared, recipe: Recipe) -> Backend:
        """The one of several backends that takes the least time for texts, alone and in batches, as it was
        measured on this kind of machine, or is now: one after the other, so that the weights are not in
        memory twice.
        """
        costs: list[tuple[float, Backend]] = []
        for backend in found:
            try:
                known = kept(
                    self._prepared_dirs,
                    self._key(backend, prepared),
                    partial(self._tried, backend, prepared, recipe),
                )
            except (ModelError, InternalError) as error:
                _log.info("a backend is left out", provider=backend.provider, reason=error.message)
            else:
                costs.append((known.slowness(), backend))
        if not costs:
            return found[0]
        _log.info("the fastest backend", **{each.provider: round(ms, 3) for ms, each in costs})
        return min(costs, key=itemgetter(0))[1]

    def _tried(self, backend: Backend, prepared: Prepared, recipe: Recipe) -> Calibration:
        """What batches cost on a backend, which is then closed again."""
        _, costs = self._ready(backend, prepared, recipe)
        backend.close()
        return costs

    def _check(self, backend: Backend, prepared: Prepared, recipe: Recipe) -> None:
        """Compare other kernels than those that the graph was checked with when it was prepared."""
        library = {"openvino": "OpenVINO", "cuda": "CUDA"}.get(backend.provider)
        if library and (why := fault(backend, prepared, recipe.task)):
            raise PrecisionUnavailableError(f"{library} on {self._execution.node} is not used: {why}")

    def _key(self, backend: Backend, prepared: Prepared) -> str:
        """What a measurement holds for."""
        device = identity(self._execution.threads)
        if backend.provider == "cuda":
            device += f"-{self._gpu.name()}"
            device += f"-{backend.variant}" if isinstance(backend, OnDevice) else ""
        return f"{prepared.key}-{backend.precision}-{backend.provider}-{device}"

    def _memory(self) -> dict[str, int]:
        """Bytes in use, by provider."""
        gpu = self._gpu.memory() if self._cuda else None
        return {"cpu": metrics.resident_bytes(), "cuda": gpu.used if gpu else 0}


def _log_ready(wanted: Wanted, source: ModelSource, card: ModelCard, seconds: float) -> None:
    _log.info(
        "model ready",
        model=wanted.name,
        revision=wanted.revision,
        commit=source.commit,
        task=source.recipe.task,
        provider=card.provider,
        precision=card.precision,
        prepared=card.prepared,
        pooling=list(source.recipe.pooling),
        max_tokens=source.recipe.max_tokens,
        fingerprint=source.fingerprint,
        memory_bytes=card.memory_bytes,
        seconds=round(seconds, 3),
    )
