"""The engine's one computing thread: runs batches from the backlog for as long as it lives.

Everything that the event loop calls (`open`, `close`, `submit`, `cancel`, `usage`) is quick and thread-safe;
answers are handed over through the callbacks, on the computing thread. Models are loaded elsewhere, and
closed here, between two batches.
"""

import itertools
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np

from embedding_runtime.engine.backend import EXTRAS, Backend, Extra, Float32, Outcome, Tokens
from embedding_runtime.engine.calibration import Calibration
from embedding_runtime.engine.device import OnDevice
from embedding_runtime.engine.extras import no_such
from embedding_runtime.errors import InternalError, OverloadedError, RuntimeFault, UnloadedError
from embedding_runtime.pulse import Pulse
from embedding_runtime.service.gauges import BatchGauges, QueueGauges
from embedding_runtime.service.policy.admission import Bounds, refusal
from embedding_runtime.service.policy.backlog import Backlog, Cut, Priority
from embedding_runtime.service.policy.window import Limits
from embedding_runtime.service.rescue import Run, rescued
from embedding_runtime.service.wire import Rows
from embedding_runtime.telemetry import logger

_log = logger("compute")

Answer = Callable[[Rows | RuntimeFault], None]

# A batch that takes so many times what was expected hangs.
_HANGING = 20.0
# Until the event loop has unloaded what can go; it may stand still while a session is built.
_ROOM_SECONDS = 10.0
_NOTHING = np.empty((0, 0), dtype=np.float32)


@dataclass
class _Job:
    slot: int
    texts: Sequence[Tokens]
    answer: Answer
    priority: Priority
    arrived: float
    wants: frozenset[Extra]
    started: float = 0.0
    rows: Float32 | None = None
    extras: dict[Extra, list[Float32]] = field(init=False)
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = len(self.texts)
        self.extras = {name: [_NOTHING] * len(self.texts) for name in self.wants}


@dataclass
class _Open:
    backend: Backend
    gauges: BatchGauges
    last_used: float
    jobs: int = 0


@dataclass(frozen=True)
class _Begun:
    """A batch whose outcome `pending` waits for, and `run` computes another time."""

    cut: Cut
    texts: list[Tokens]
    run: Run
    pending: Callable[[], Outcome]
    at: float


@dataclass(frozen=True)
class Usage:
    """Whether a model has waiting or running work, and when it last had (monotonic seconds)."""

    busy: bool
    last_used: float


class Compute(threading.Thread):
    """Owns the loaded backends and the backlog.

    `bounds`: what may wait. `hang_seconds`: a batch is never taken for hung before, as `pulse` tells it.
    """

    def __init__(self, bounds: Bounds, *, pulse: Pulse | None = None, hang_seconds: float = 20.0) -> None:
        super().__init__(name="compute", daemon=True)
        self._bounds, self._pulse, self._hang_seconds = bounds, pulse, hang_seconds
        self._open: dict[int, _Open] = {}
        self._closing: list[tuple[int, Callable[[], None]]] = []
        self._backlog = Backlog()
        self._queue_gauges = QueueGauges()
        self._jobs: dict[int, _Job] = {}
        self._ids = itertools.count(1)
        self._wake = threading.Condition()
        self._stopping = False
        self._running: list[int] = []
        self._last_done = 0.0
        self._room: Callable[[Callable[[bool], None]], None] | None = None

    def ask_for_room(self, room: Callable[[Callable[[bool], None]], None]) -> None:
        """How to have models unloaded that have no work: `room` calls back with whether there were any."""
        self._room = room

    def open(self, slot: int, backend: Backend, costs: Calibration, limits: Limits, label: str) -> None:
        """From now on the model in `slot` answers; `label` names it in metrics."""
        with self._wake:
            self._open[slot] = _Open(backend, BatchGauges(label), time.monotonic())
            self._backlog.open(slot, limits, costs)

    def close(self, slot: int, closed: Callable[[], None]) -> None:
        """Let go of a model that has no work left; `closed` is called on the computing thread when its memory
        is given back.
        """
        with self._wake:
            self._closing.append((slot, closed))
            self._wake.notify()

    def usage(self) -> dict[int, Usage]:
        """How every open model is used."""
        with self._wake:
            return {
                slot: Usage(model.jobs > 0 or slot in self._running, model.last_used)
                for slot, model in self._open.items()
            }

    def submit(
        self,
        slot: int,
        texts: Sequence[Tokens],
        priority: Priority,
        answer: Answer,
        extras: frozenset[Extra] = frozenset(),
    ) -> int:
        """Queue a request for the texts' rows and `extras`; `answer` is called once, on the computing thread.
        Returns the id to cancel it by.

        Raises UnloadedError, OverloadedError, UnsupportedFieldError for what the model does not give.
        """
        lengths = [len(text) for text in texts]
        with self._wake:
            model = self._open.get(slot)
            if model is None or any(slot == other for other, _ in self._closing):
                raise UnloadedError("the model was unloaded meanwhile", retry_after=1)
            # Before it shares a batch, whose other requests would fail with it.
            if extras and (missing := extras - model.backend.gives - {"sparse"}):
                raise no_such(min(missing))
            self._admit(sum(lengths), priority)
            request = next(self._ids)
            model.last_used = time.monotonic()
            model.jobs += 1
            self._jobs[request] = _Job(slot, texts, answer, priority, model.last_used, extras)
            if grid := model.backend.grid:
                lengths = [grid.length(length) for length in lengths]
            self._backlog.add(request, slot, lengths, priority, model.last_used)
            self._wake.notify()
        return request

    def cancel(self, request: int) -> None:
        """Forget a request, whose answer then never comes."""
        with self._wake:
            self._backlog.drop(request)
            if (job := self._jobs.pop(request, None)) is not None:
                self._leave(job)

    def show_queue(self) -> None:
        """Tell the metrics what waits."""
        with self._wake:
            self._queue_gauges.show(self._backlog)

    def stop(self) -> None:
        """End the thread after the batch that is running."""
        with self._wake:
            self._stopping = True
            self._wake.notify()

    def run(self) -> None:
        """Compute. A bug here ends the process, which the supervisor starts again."""
        try:
            under_way: _Begun | None = None
            while True:
                found = self._next(wait=under_way is None)
                if found is None and under_way is None:
                    return
                begun = self._start(*found) if found else None
                if under_way:
                    self._finish(under_way)
                under_way = begun
        except BaseException:
            _log.exception("the computing thread died")
            # Anything milder would leave an engine that answers nobody while it looks alive.
            os._exit(1)

    def _admit(self, tokens: int, priority: Priority) -> None:
        found = refusal(self._backlog.ahead(priority), tokens, self._bounds)
        if found is not None:
            raise OverloadedError(found.reason, retry_after=found.seconds)

    def _next(self, *, wait: bool) -> tuple[Cut, list[Tokens], frozenset[Extra]] | None:
        """The next batch, waiting for one where nothing else is to be done meanwhile; None: none, or stop."""
        while True:
            with self._wake:
                if wait:
                    self._wake.wait_for(lambda: self._stopping or self._closing or len(self._backlog) > 0)
                elif self._stopping or self._closing:
                    return None
                if self._stopping:
                    return None
                if not self._closing:
                    cut = self._backlog.cut(time.monotonic())
                    if cut is not None:
                        return cut, *self._begin(cut)
                    if not wait:
                        return None
            self._close_leaving()

    def _close_leaving(self) -> None:
        """Give the memory back of models that have to go and have no work."""
        with self._wake:
            closing = [(self._open.pop(slot, None), slot, closed) for slot, closed in self._closing]
            self._closing.clear()
            for _, slot, _closed in closing:
                self._backlog.close(slot)
        for model, _, closed in closing:
            if model is not None:
                model.backend.close()
            closed()

    def _begin(self, cut: Cut) -> tuple[list[Tokens], frozenset[Extra]]:
        """The texts of a batch that starts now, and what is wanted of any of them beside its row."""
        self._running.append(cut.slot)
        now, wanted = time.monotonic(), frozenset[Extra]()
        for request in {request for request, _ in cut.items}:
            job = self._jobs[request]
            wanted |= job.wants
            if not job.started:
                job.started = now
        return [self._jobs[request].texts[index] for request, index in cut.items], wanted

    def _start(self, cut: Cut, texts: list[Tokens], wanted: frozenset[Extra]) -> _Begun | None:
        """Begin a batch where a device computes it meanwhile; else compute it."""
        backend, now = self._open[cut.slot].backend, time.monotonic()
        run = _running(backend, wanted)
        if wanted or not isinstance(backend, OnDevice) or not backend.overlaps:
            self._finish(_Begun(cut, texts, run, lambda: run(texts), now))
            return None
        try:
            rows = backend.start(texts)
        except Exception as error:
            return _Begun(cut, texts, run, _raising(error), now)
        return _Begun(cut, texts, run, lambda: Outcome(rows()), now)

    def _finish(self, begun: _Begun) -> None:
        """Wait for a batch's rows and hand them out."""
        cut, texts = begun.cut, begun.texts
        model = self._open[cut.slot]

        def narrow(tokens: int) -> None:
            with self._wake:
                self._backlog.narrow(cut.slot, tokens)

        patience = max(self._hang_seconds, _HANGING * cut.milliseconds / 1000)
        try:
            with self._pulse.computing(patience) if self._pulse else nullcontext():
                outcome = rescued(begun.pending, begun.run, model.backend, texts, self._make_room, narrow)
        except RuntimeFault as error:
            self._fail(cut, error)
            return
        except Exception as error:
            _log.exception("a batch failed")
            self._fail(cut, InternalError(f"{type(error).__name__}: {error}"))
            return
        finally:
            # The device began with it when the one before was done, if not later.
            started, self._last_done = max(begun.at, self._last_done), time.monotonic()
            with self._wake:
                self._running.remove(cut.slot)
        seconds = time.monotonic() - started
        done = self._finished(cut, outcome)
        for job, answer in done:
            job.answer(answer)
        # Accounts come after the answers, for which somebody waits.
        model.gauges.ran(len(texts), cut.padded - sum(map(len, texts)))
        for job, _ in done:
            model.gauges.waited(job.priority, job.started - job.arrived)
        with self._wake:
            self._backlog.ran(cut, seconds)

    def _make_room(self) -> bool:
        """Whether models were unloaded that had no work, so that there is more memory."""
        if self._room is None:
            return False
        told: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._room(told.put)
        try:
            found = told.get(timeout=_ROOM_SECONDS)
        except queue.Empty:
            return False
        self._close_leaving()
        return found

    def _finished(self, cut: Cut, outcome: Outcome) -> list[tuple[_Job, Rows]]:
        """Put everything where it belongs; the jobs that are now complete, with their answers."""
        rows = outcome.rows
        done: list[tuple[_Job, Rows]] = []
        with self._wake:
            now = time.monotonic()
            for at, ((request, index), row) in enumerate(zip(cut.items, rows, strict=True)):
                job = self._jobs.get(request)
                if job is None:  # cancelled while the batch ran
                    continue
                if job.rows is None:
                    job.rows = np.empty((len(job.texts), rows.shape[1]), dtype=np.float32)
                job.rows[index] = row
                for name, found in job.extras.items():
                    found[index] = outcome.extras[name][at]
                job.missing -= 1
                if job.missing == 0:
                    del self._jobs[request]
                    self._leave(job)
                    waited, took = job.started - job.arrived, now - job.started
                    done.append((job, Rows(job.rows, waited, took, job.extras)))
        return done

    def _fail(self, cut: Cut, error: RuntimeFault) -> None:
        """One batch failed: every request that had a text in it fails as a whole."""
        with self._wake:
            requests = {request for request, _ in cut.items}
            for request in requests:
                self._backlog.drop(request)
            jobs = [job for request in requests if (job := self._jobs.pop(request, None)) is not None]
            for job in jobs:
                self._leave(job)
        for job in jobs:
            job.answer(error)

    def _leave(self, job: _Job) -> None:
        model = self._open[job.slot]
        model.jobs -= 1
        model.last_used = time.monotonic()


def _running(backend: Backend, wanted: frozenset[Extra]) -> Run:
    """How the backend runs a batch of which this is wanted."""
    if not wanted:
        return lambda texts: Outcome(backend.run(texts))
    if "sparse" in wanted:
        run = _running(backend, wanted - {"sparse"})
        return lambda texts: run(texts).made_sparse()
    extras = [name for name in EXTRAS if name in wanted]
    return lambda texts: backend.run_with(texts, extras)


def _raising(error: Exception) -> Callable[[], Outcome]:
    def pending() -> Outcome:
        raise error

    return pending
