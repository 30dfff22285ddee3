"""`prefetch`: fetch one model into the cache, prove that it loads and runs, and report.

stdout gets progress as JSON lines, the termination message (JSON, under 4 KiB) goes to
TERMINATION_MESSAGE_PATH. Exit codes: 0 done, 3 a failure that trying again cannot mend, 4 one that it might.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from embedding_runtime.engine.backend import Execution
from embedding_runtime.engine.onnx_backend import OnnxBackend
from embedding_runtime.engine.threads import cpu_limit, thread_count
from embedding_runtime.errors import InternalError, ModelError, RuntimeFault
from embedding_runtime.model.obtain import obtain
from embedding_runtime.model.source import ModelSource, open_source
from embedding_runtime.registry.cache import Snapshot, find
from embedding_runtime.registry.hub import Hub
from embedding_runtime.registry.reference import ModelRef
from embedding_runtime.service.tokenization import Tokenization
from embedding_runtime.settings import PrefetchSettings
from embedding_runtime.telemetry import logger

_log = logger("prefetch")

PERMANENT_FAILURE, TRANSIENT_FAILURE = 3, 4

_PROBE = "The quick brown fox jumps over the lazy dog."
_REPORT_SECONDS = 1.0
_FIRST_WAIT, _LAST_WAIT = 1.0, 15.0
# The kubelet keeps 4,096 bytes of a termination message; this many of them are for the text.
_LONGEST_MESSAGE = 2_500

# What readers of the termination message know; every other class is told as the nearest of these.
_CLASSES = {
    "NotCached": "HubUnreachable",
    "CorruptModel": "UnsupportedModel",
    "ProviderUnavailable": "InternalError",
    "CacheUnwritable": "InternalError",
    "InvalidSettings": "InternalError",
}


class Progress:
    """Prints progress lines, at most one a second for the same phase."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._phase = ""
        self._last = 0.0
        self._bytes, self._total = 0, None  # type: int, int | None

    def __call__(self, phase: str, message: str, bytes_: int | None = None, total: int | None = None) -> None:
        """Report; without bytes the last known ones stand."""
        now = self._clock()
        # The last report of a download is worth a line of its own, once.
        done = bytes_ is not None and bytes_ == total and self._bytes != bytes_
        if bytes_ is not None:
            self._bytes, self._total = bytes_, total
        if phase == self._phase and now - self._last < _REPORT_SECONDS and not done:
            return
        self._phase, self._last = phase, now
        line = {
            "event": "progress",
            "phase": phase,
            "bytes": self._bytes,
            "total": self._total,
            "message": message,
        }
        print(json.dumps(line), file=self._stream, flush=True)


@dataclass(frozen=True)
class Verified:
    """A model that was loaded and gave a finite answer; `width` of its rows."""

    source: ModelSource
    width: int


def prefetch(settings: PrefetchSettings) -> int:
    """Fetch, verify, report; the exit code."""
    progress = Progress(sys.stdout)
    try:
        verified = _verify(settings, _with_retries(settings, progress), progress)
    except RuntimeFault as error:
        return fail(error, settings.termination_message_path)
    except Exception as error:
        _log.exception("prefetch failed")
        return fail(InternalError(f"{type(error).__name__}: {error}"), settings.termination_message_path)
    _report(success(verified), settings.termination_message_path)
    return 0


def _with_retries(settings: PrefetchSettings, progress: Progress) -> Snapshot:
    """Fetch, trying transient failures again for PREFETCH_RETRY_SECONDS."""
    deadline = time.monotonic() + settings.retry_seconds
    wait = _FIRST_WAIT
    while True:
        try:
            return _fetch(settings, progress)
        except RuntimeFault as error:
            pause = max(wait, error.retry_after or 0) * random.uniform(0.75, 1.25)
            if error.permanent or time.monotonic() + pause > deadline:
                raise
            _log.warning("trying again", wait=round(pause, 1), code=error.code, error=error.message)
            progress("waiting", f"trying again in {pause:.0f} s: {error.message}")
            time.sleep(pause)
            wait = min(_LAST_WAIT, 2 * wait)


def _fetch(settings: PrefetchSettings, progress: Progress) -> Snapshot:
    ref = ModelRef(settings.model_id, settings.model_revision)
    if settings.hf_hub_offline:
        return find(settings.cache_dir, ref, settings.model_file)
    if ref.is_pinned:
        try:
            return find(settings.cache_dir, ref, settings.model_file)
        except ModelError:
            pass  # what is missing or broken is fetched
    progress("resolving", f"asking {settings.hf_endpoint} for {ref}")
    hub = Hub(settings.hf_endpoint, settings.token, settings.cache_dir)
    plan = hub.plan(ref, settings.model_file)

    def report(had: int, total: int | None) -> None:
        progress("downloading", f"{ref.id}@{plan.commit[:12]} {plan.graph}", had, total)

    return obtain(hub, plan, report)


def _verify(settings: PrefetchSettings, snapshot: Snapshot, progress: Progress) -> Verified:
    """Load the model and run a probe text through it.

    Raises ModelError, InternalError when its output is not finite.
    """
    progress("inspecting", f"loading {snapshot.ref.id} {snapshot.graph}", snapshot.bytes, snapshot.bytes)
    source = open_source(snapshot, None if settings.model_task == "auto" else settings.model_task)
    if source.recipe.assumed and source.recipe.task == "embed":
        _log.warning(
            "no modules.json: mean pooling without normalisation, as sentence-transformers", model=source.id
        )
    tokenization = Tokenization(source.tokenizer_path, source.recipe)
    embeds = source.recipe.task == "embed"
    tokens = tokenization.embed([_PROBE]) if embeds else tokenization.pairs(_PROBE, [_PROBE])
    threads = thread_count(settings.ort_num_threads, cpu_limit())
    backend = OnnxBackend(source.graph_path, source.recipe, Execution("cpu", threads))
    backend.load()
    try:
        return Verified(source, backend.run(tokens).shape[1])
    finally:
        backend.close()


def success(verified: Verified) -> dict[str, Any]:
    """The termination message of a model that is in the cache and works."""
    source = verified.source
    return {
        "status": "ok",
        "model": source.id,
        "commit": source.commit,
        "fingerprint": source.fingerprint,
        "task": source.recipe.task,
        "dimensions": verified.width if source.recipe.task == "embed" else None,
        "maxTokens": source.recipe.max_tokens,
        "bytes": source.bytes,
        "precision": source.precision,
        "file": source.graph,
    }


def failure(error: RuntimeFault) -> dict[str, Any]:
    """The termination message of a failure."""
    return {
        "status": "error",
        "error": {
            "class": _CLASSES.get(error.code, error.code),
            "message": error.message.encode()[:_LONGEST_MESSAGE].decode(errors="ignore"),
            "permanent": error.permanent,
            "retryAfter": error.retry_after,
        },
    }


def fail(error: RuntimeFault, path: Path | None) -> int:
    """Report a failure; the exit code."""
    _log.error("prefetch failed", code=error.code, error=error.message, permanent=error.permanent)
    _report(failure(error), path)
    return PERMANENT_FAILURE if error.permanent else TRANSIENT_FAILURE


def _report(message: dict[str, Any], path: Path | None) -> None:
    text = json.dumps(message, ensure_ascii=False)
    print(json.dumps({"event": "result", **message}), flush=True)
    if path is None:
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        _log.error("cannot write the termination message", path=str(path), error=str(error))
