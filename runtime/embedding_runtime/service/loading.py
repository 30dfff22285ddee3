"""How a configured model gets from its name into a backend: find or fetch, read, load, warm up."""

import time
from dataclasses import dataclass

from embedding_runtime import metrics
from embedding_runtime.engine.backend import Backend, Execution
from embedding_runtime.engine.onnx_backend import OnnxBackend
from embedding_runtime.engine.threads import cpu_limit, thread_count
from embedding_runtime.errors import HubError, NotCachedError
from embedding_runtime.model.source import ModelSource, open_source
from embedding_runtime.registry.cache import Snapshot, find
from embedding_runtime.registry.reference import ModelRef
from embedding_runtime.service.configured import Configured
from embedding_runtime.service.state import ModelCard
from embedding_runtime.settings import ServeSettings
from embedding_runtime.telemetry import logger

_log = logger("loading")


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to run."""

    backend: Backend
    card: ModelCard


def load(model: Configured, settings: ServeSettings) -> Loaded:
    """Find or fetch the model, load it and run real inferences.

    Raises ModelError, CacheError; HubError is worth another try.
    """
    started, before = time.monotonic(), metrics.resident_bytes()
    source = open_source(_snapshot(model.ref, settings), model.task, settings.expected_fingerprint)
    if source.recipe.assumed and source.recipe.task == "embed":
        _log.warning(
            "no modules.json: mean pooling without normalisation, as sentence-transformers", model=source.id
        )
    backend = OnnxBackend(source.graph_path, source.recipe, _execution(settings))
    backend.load()
    width = backend.warm_up()
    seconds = time.monotonic() - started
    metrics.LOAD_SECONDS.labels(source.id).observe(seconds)
    metrics.MODEL_BYTES.labels(source.id).set(max(0, metrics.resident_bytes() - before))
    metrics.MODELS_LOADED.inc()
    _log_loaded(source, backend, seconds)
    return Loaded(backend, ModelCard.of(source, backend.provider, width))


def _snapshot(ref: ModelRef, settings: ServeSettings) -> Snapshot:
    """From the cache when offline or when the revision is pinned and there; else through the hub."""
    if settings.hf_hub_offline:
        return find(settings.cache_dir, ref, settings.model_file)
    if ref.is_pinned:
        try:
            return find(settings.cache_dir, ref, settings.model_file)
        except NotCachedError:
            pass
    # Imported here: offline, which is how a pod serves, the hub client would only cost memory.
    from embedding_runtime.model.obtain import obtain
    from embedding_runtime.registry.hub import Hub

    hub = Hub(settings.hf_endpoint, settings.token, settings.cache_dir)
    try:
        return obtain(hub, hub.plan(ref, settings.model_file), lambda _had, _total: None)
    except HubError as error:
        try:
            snapshot = find(settings.cache_dir, ref, settings.model_file)
        except NotCachedError:
            raise error from None
        _log.warning("the hub does not answer, serving the cached model", model=str(ref), error=error.message)
        return snapshot


def _execution(settings: ServeSettings) -> Execution:
    threads = thread_count(settings.ort_num_threads, cpu_limit())
    return Execution(settings.ort_execution_provider, threads)


def _log_loaded(source: ModelSource, backend: Backend, seconds: float) -> None:
    _log.info(
        "model ready",
        model=source.id,
        commit=source.commit,
        task=source.recipe.task,
        provider=backend.provider,
        precision=source.precision,
        pooling=list(source.recipe.pooling),
        max_tokens=source.recipe.max_tokens,
        fingerprint=source.fingerprint,
        seconds=round(seconds, 3),
    )
