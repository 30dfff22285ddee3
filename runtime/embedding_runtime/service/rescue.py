"""Batches that find no memory: what `policy.ladder` says is done, on the computing thread."""

from collections.abc import Callable, Sequence
from functools import partial

from embedding_runtime import metrics
from embedding_runtime.engine.backend import Backend, Outcome, Tokens
from embedding_runtime.engine.device import OnDevice
from embedding_runtime.engine.extras import joined
from embedding_runtime.errors import OutOfMemoryError
from embedding_runtime.service.policy.ladder import Rung, next_rung
from embedding_runtime.telemetry import logger

_log = logger("compute")


Run = Callable[[Sequence[Tokens]], Outcome]


def rescued(
    first: Callable[[], Outcome],
    run: Run,
    backend: Backend,
    texts: Sequence[Tokens],
    make_room: Callable[[], bool],
    narrow: Callable[[int], None],
    tried: frozenset[Rung] = frozenset(),
) -> Outcome:
    """What a batch gives, which `first` waits for; without memory for it it is `run` again by the `backend`.

    `make_room` unloads models that have no work, and says whether there were any; `narrow` has later batches
    hold so many padded tokens at most, as the halves of one had to. Raises OutOfMemoryError where a single
    text finds no memory either, and whatever else `first` and `run` raise.
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
        return _halves(run, backend, texts, make_room, narrow, tried)
    freed = _freed(rung, backend, make_room)

    def again() -> Outcome:
        if not freed:
            raise failure
        return run(texts)

    return rescued(again, run, backend, texts, make_room, narrow, tried | {rung})


def _freed(rung: Rung, backend: Backend, make_room: Callable[[], bool]) -> bool:
    """Whether there may be memory now that was not there before."""
    if rung == "unload":
        return make_room()
    if not isinstance(backend, OnDevice):
        return False
    backend.shrink()
    return True


def _halves(
    run: Run,
    backend: Backend,
    texts: Sequence[Tokens],
    make_room: Callable[[], bool],
    narrow: Callable[[int], None],
    tried: frozenset[Rung],
) -> Outcome:
    """What both halves give, one after the other."""
    middle = len(texts) // 2
    narrow(max(1, middle) * max(map(len, texts)))
    parts = (texts[:middle], texts[middle:])
    return joined(
        [rescued(partial(run, part), run, backend, part, make_room, narrow, tried) for part in parts]
    )
