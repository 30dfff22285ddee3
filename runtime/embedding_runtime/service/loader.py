"""The engine's loading threads: several that fetch, which is waiting for the network and reading, and one
that builds sessions, which holds the interpreter's lock.
"""

import queue
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from embedding_runtime.errors import InternalError, RuntimeFault
from embedding_runtime.model.source import ModelSource
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.service.loading import Loaded
from embedding_runtime.telemetry import logger

_log = logger("loader")
_T = TypeVar("_T")

# Models that are fetched side by side: one hub that hangs must not keep the next model waiting.
_FETCHING_THREADS = 4


class Loading(Protocol):
    """How a model gets into memory, in the two steps between which there may be room to make."""

    def fetch(self, wanted: Wanted) -> ModelSource:
        """Find or fetch the model's files and read them. Raises ModelError, CacheError, HubError."""

    def build(self, wanted: Wanted, source: ModelSource) -> Loaded:
        """Load it and run real inferences. Raises ModelError, OutOfMemoryError."""


class Loader:
    """Runs the steps on its threads; `done` is called there with the result or what went wrong, once."""

    def __init__(self, loading: Loading) -> None:
        self._loading = loading
        self._fetches: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._builds: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        for number in range(_FETCHING_THREADS):
            _start(f"fetch-{number}", self._fetches)
        _start("build", self._builds)

    def fetch(self, wanted: Wanted, done: Callable[[ModelSource | RuntimeFault], None]) -> None:
        """Fetch a model, when its turn comes."""
        self._fetches.put(lambda: done(_outcome(lambda: self._loading.fetch(wanted))))

    def build(
        self, wanted: Wanted, source: ModelSource, done: Callable[[Loaded | RuntimeFault], None]
    ) -> None:
        """Build a fetched model, one at a time."""
        self._builds.put(lambda: done(_outcome(lambda: self._loading.build(wanted, source))))


def _start(name: str, work: "queue.SimpleQueue[Callable[[], None]]") -> None:
    def run() -> None:
        while True:
            work.get()()

    threading.Thread(target=run, name=name, daemon=True).start()


def _outcome(step: Callable[[], _T]) -> _T | RuntimeFault:
    try:
        return step()
    except RuntimeFault as error:
        return error
    except Exception as error:
        _log.exception("loading failed")
        return InternalError(f"{type(error).__name__}: {error}")
