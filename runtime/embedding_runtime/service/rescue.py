"""Batches that find no memory: what `policy.ladder` says is done, on the computing thread."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from embedding_runtime import metrics
from embedding_runtime.engine.backend import Backend, Float32, Tokens
from embedding_runtime.engine.device import OnDevice, Pending
from embedding_runtime.errors import OutOfMemoryError
from embedding_runtime.service.policy.ladder import Rung, next_rung
from embedding_runtime.telemetry import logger

_log = logger("compute")


def rescued(
    first: Pending,
    backend: Backend,
    texts: Sequence[Tokens],
    make_room: Callable[[], bool],
    narrow: Callable[[int], None],
    tried: frozenset[Rung] = frozenset(),
) -> Float32:
    """The rows of a batch, float32 [b, width], that `first` waits for; without memory for it it runs again.

    `make_room` unloads models that have no work, and says whether there were any; `narrow` has later batches
    hold so many padded tokens at most, as the halves of one had to. Raises OutOfMemoryError where a single
    text finds no memory either, and whatever else `first` and `backend` raise.
    """
    try:
        return first()
    except OutOfMemoryError as error:
        failure = error
    rung = next_rung(tried, len(texts))
    metrics.MEMORY_SHORT.labels(rung).inc()
    _log.warning("a batch finds no memory", texts=len(texts), trying=rung, error=failure.message)
    if rung == "refuse":
        raise failure
    if rung == "split":
        return _halves(backend, texts, make_room, narrow, tried)
    freed = _freed(rung, backend, make_room)

    def again() -> Float32:
        if not freed:
            raise failure
        return backend.run(texts)

    return rescued(again, backend, texts, make_room, narrow, tried | {rung})


def _freed(rung: Rung, backend: Backend, make_room: Callable[[], bool]) -> bool:
    """Whether there may be memory now that was not there before."""
    if rung == "unload":
        return make_room()
    if not isinstance(backend, OnDevice):
        return False
    backend.shrink()
    return True


def _halves(
    backend: Backend,
    texts: Sequence[Tokens],
    make_room: Callable[[], bool],
    narrow: Callable[[int], None],
    tried: frozenset[Rung],
) -> Float32:
    """The rows of both halves, one after the other."""
    middle = len(texts) // 2
    narrow(max(1, middle) * max(map(len, texts)))
    parts = (texts[:middle], texts[middle:])
    return np.concatenate(
        [rescued(partial(backend.run, part), backend, part, make_room, narrow, tried) for part in parts]
    )
