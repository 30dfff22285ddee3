"""The engine's one computing thread: loads the models, then runs batches from the backlog for as long as it
lives.

Everything that the event loop calls (`submit`, `cancel`) is quick and thread-safe; answers are handed over
through the callbacks, on the computing thread.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from embedding_runtime.engine.backend import Float32, Tokens
from embedding_runtime.errors import (
    InternalError,
    LoadFailedError,
    NotReadyError,
    OverloadedError,
    RuntimeFault,
    WireError,
)
from embedding_runtime.service.backlog import Backlog, Cut, Limits
from embedding_runtime.service.configured import Configured
from embedding_runtime.service.loading import Loaded
from embedding_runtime.service.state import EngineState, ModelState
from embedding_runtime.telemetry import logger

_log = logger("compute")

Answer = Callable[[Float32 | RuntimeFault], None]
Load = Callable[[Configured], Loaded]

_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 30.0
# Retry-After of a full queue before anything was measured, and its bounds.
_FIRST_TOKENS_PER_SECOND = 5_000.0
_RETRY_AFTER_SECONDS = (1.0, 60.0)
_SMOOTHING = 0.2


@dataclass
class _Job:
    texts: Sequence[Tokens]
    answer: Answer
    rows: Float32 | None = None
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = len(self.texts)


class Compute(threading.Thread):
    """Owns the backends and the backlog."""

    def __init__(
        self,
        models: Sequence[Configured],
        load: Load,
        batch_sizes: Sequence[int],
        batch_tokens: int | None,
        queue_tokens: int,
        publish: Callable[[EngineState], None],
    ) -> None:
        super().__init__(name="compute", daemon=True)
        self._models, self._load, self._publish = models, load, publish
        self._batch_sizes, self._batch_tokens, self._queue_tokens = batch_sizes, batch_tokens, queue_tokens
        self._loaded: dict[int, Loaded] = {}
        self._backlog = Backlog([Limits(batch_tokens or 1, size) for size in batch_sizes])
        self._jobs: dict[int, _Job] = {}
        self._ids = itertools.count(1)
        self._wake = threading.Condition()
        self._stopping = False
        self._tokens_per_second = _FIRST_TOKENS_PER_SECOND
        self.state = EngineState(
            tuple(ModelState(model.ref.id, model.ref.revision, model.task) for model in models)
        )

    def submit(self, slot: int, texts: Sequence[Tokens], answer: Answer) -> int:
        """Queue a request; `answer` is called once, on the computing thread. Returns the id to cancel it by.

        Raises NotReadyError, LoadFailedError, OverloadedError, WireError (no such slot).
        """
        if slot >= len(self._models):
            raise WireError(f"no model has the slot {slot}")
        lengths = [len(text) for text in texts]
        with self._wake:
            self._admit(slot, sum(lengths))
            request = next(self._ids)
            self._jobs[request] = _Job(texts, answer)
            self._backlog.add(request, slot, lengths)
            self._wake.notify()
        return request

    def cancel(self, request: int) -> None:
        """Forget a request, whose answer then never comes."""
        with self._wake:
            self._backlog.drop(request)
            self._jobs.pop(request, None)

    def stop(self) -> None:
        """End the thread after the batch that is running."""
        with self._wake:
            self._stopping = True
            self._wake.notify()

    def run(self) -> None:
        """Load every model, then compute. A bug here ends the process, which the supervisor starts again."""
        try:
            self._run()
        except BaseException:
            _log.exception("the computing thread died")
            # Anything milder would leave an engine that answers nobody while it looks alive.
            os._exit(1)

    def _run(self) -> None:
        for slot, model in enumerate(self._models):
            self._load_one(slot, model)
        while (cut := self._next()) is not None:
            self._compute(*cut)

    def _admit(self, slot: int, tokens: int) -> None:
        state = self.state.models[slot]
        if state.state == "load_failed":
            raise LoadFailedError(f"{state.id} could not be loaded: {state.message}")
        if slot not in self._loaded:
            raise NotReadyError(f"{state.id} is still loading", retry_after=1)
        waiting = self._backlog.tokens
        # A request that meets an empty queue is always taken: its size is bounded where it came in.
        if waiting and waiting + tokens > self._queue_tokens:
            low, high = _RETRY_AFTER_SECONDS
            seconds = min(high, max(low, waiting / self._tokens_per_second))
            raise OverloadedError(f"the queue is full: {waiting} tokens wait", retry_after=round(seconds, 1))

    def _load_one(self, slot: int, model: Configured) -> None:
        wait = _FIRST_RETRY_SECONDS
        while not self._stopping:
            try:
                loaded = self._load(model)
            except RuntimeFault as error:
                self._set(slot, state="load_failed" if error.permanent else "loading", error=error)
                if error.permanent:
                    _log.error(
                        "model cannot be loaded", model=str(model.ref), code=error.code, error=error.message
                    )
                    return
                _log.warning(
                    "loading failed, trying again", model=str(model.ref), wait=wait, error=error.message
                )
            except Exception as error:
                _log.exception("loading failed", model=str(model.ref))
                self._set(slot, state="load_failed", error=InternalError(f"{type(error).__name__}: {error}"))
                return
            else:
                tokens = self._batch_tokens or loaded.backend.token_budget
                self._backlog.limits[slot] = Limits(tokens, self._batch_sizes[slot])
                self._loaded[slot] = loaded
                self._change(
                    slot,
                    replace(self.state.models[slot], state="ready", reason="", message="", card=loaded.card),
                )
                return
            with self._wake:
                self._wake.wait_for(lambda: self._stopping, wait)
            wait = min(_LAST_RETRY_SECONDS, 2 * wait)

    def _set(self, slot: int, *, state: str, error: RuntimeFault) -> None:
        known = self.state.models[slot]
        failed = replace(known, state="load_failed", reason=error.code, message=error.message)
        self._change(slot, failed if state == "load_failed" else replace(failed, state="loading"))

    def _change(self, slot: int, model: ModelState) -> None:
        models = list(self.state.models)
        models[slot] = model
        self.state = EngineState(tuple(models))
        self._publish(self.state)

    def _next(self) -> tuple[Cut, list[Tokens]] | None:
        with self._wake:
            self._wake.wait_for(lambda: self._stopping or len(self._backlog) > 0)
            cut = None if self._stopping else self._backlog.cut()
            if cut is None:
                return None
            return cut, [self._jobs[request].texts[index] for request, index in cut.items]

    def _compute(self, cut: Cut, texts: list[Tokens]) -> None:
        started = time.monotonic()
        try:
            rows = self._loaded[cut.slot].backend.run(texts)
        except RuntimeFault as error:
            self._fail(cut, error)
            return
        except Exception as error:
            _log.exception("a batch failed")
            self._fail(cut, InternalError(f"{type(error).__name__}: {error}"))
            return
        speed = sum(map(len, texts)) / max(1e-6, time.monotonic() - started)
        self._tokens_per_second += _SMOOTHING * (speed - self._tokens_per_second)
        for job, values in self._finished(cut, rows):
            job.answer(values)

    def _finished(self, cut: Cut, rows: Float32) -> list[tuple[_Job, Float32]]:
        """Put the rows where they belong; the jobs that are now complete, with their rows."""
        done: list[tuple[_Job, Float32]] = []
        with self._wake:
            for (request, index), row in zip(cut.items, rows, strict=True):
                job = self._jobs.get(request)
                if job is None:  # cancelled while the batch ran
                    continue
                if job.rows is None:
                    job.rows = np.empty((len(job.texts), rows.shape[1]), dtype=np.float32)
                job.rows[index] = row
                job.missing -= 1
                if job.missing == 0:
                    del self._jobs[request]
                    done.append((job, job.rows))
        return done

    def _fail(self, cut: Cut, error: RuntimeFault) -> None:
        """One batch failed: every request that had a text in it fails as a whole."""
        with self._wake:
            requests = {request for request, _ in cut.items}
            for request in requests:
                self._backlog.drop(request)
            jobs = [job for request in requests if (job := self._jobs.pop(request, None)) is not None]
        for job in jobs:
            job.answer(error)
