"""The work queue in front of the reconciler: pure asyncio, knows nothing of Kubernetes.

One key is worked on at most once at a time; what is added meanwhile is merged and done after. Failures wait
exponentially longer, per key. Every known key comes back after a slow, jittered while (the resync).

Schedule holds the rules without waiting or time of its own; WorkQueue runs workers on it.
"""

import asyncio
import heapq
import itertools
import math
import random
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog

from embedding_operator import metrics
from embedding_operator.errors import OperatorError

log = structlog.get_logger("embedding_operator.queue")

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 120.0
AFTER_EVENT = 5.0
"""Longest wait, in seconds, of a key that failed and was asked for again meanwhile."""


class Outcome(Protocol):
    """What the work on a key returns. look_again is in seconds; gone: the key is to be forgotten."""

    @property
    def look_again(self) -> float | None:
        """Seconds until the key is due again, None: no sooner than the resync."""

    @property
    def gone(self) -> bool:
        """Whether the key no longer exists."""


@dataclass(frozen=True)
class Task(Generic[K]):
    """A key to work on. fresh: the slow resync asks, so look at the source instead of a cache."""

    key: K
    fresh: bool


class Schedule(Generic[K]):
    """Which key is next, and when. All times are seconds of one clock, passed in."""

    def __init__(self, *, resync: float, jitter: Callable[[float], float] = lambda seconds: seconds) -> None:
        self._resync = resync
        self._jitter = jitter
        self._ready: dict[K, tuple[float, bool]] = {}  # key: since when, fresh; in order of arrival
        self._busy: dict[K, bool] = {}  # key: fresh
        self._again: dict[K, bool] = {}  # asked for while busy: fresh
        self._resync_at: dict[K, float] = {}  # whatever a key asks for: when it is to be looked at afresh
        self._due: dict[K, tuple[float, int]] = {}  # the one valid delayed entry of a key
        self._heap: list[tuple[float, int, K]] = []
        self._serial = itertools.count()
        self._failures: dict[K, int] = {}

    def add(self, key: K, now: float, *, fresh: bool = False) -> None:
        """Asks for a key to be worked on as soon as a worker is free."""
        if key in self._busy:
            self._again[key] = self._again.get(key, False) or fresh
        elif key in self._ready:
            since, before = self._ready[key]
            self._ready[key] = (since, before or fresh)
        else:
            self._ready[key] = (now, fresh)

    def take(self, now: float) -> Task[K] | None:
        """Returns the next key, which is busy from now on, None if none is ready."""
        self._ripen(now)
        if not self._ready:
            return None
        key = next(iter(self._ready))
        _, asked = self._ready.pop(key)
        fresh = self._busy[key] = asked or now >= self._resync_at.get(key, math.inf)
        return Task(key, fresh)

    def done(self, key: K, now: float, *, look_again: float | None) -> None:
        """Ends the work on a key that went well; it comes back at the resync at the latest."""
        self._failures.pop(key, None)
        if self._busy[key] or key not in self._resync_at:
            self._resync_at[key] = now + self._jitter(self._resync)
        self._release(key, now)
        wait = math.inf if look_again is None else look_again
        self._delay(key, min(now + wait, self._resync_at[key]))

    def failed(self, key: K, now: float) -> float:
        """Ends the work on a key that failed. Returns the seconds until it is tried again."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        delay = self._jitter(min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(count, 16)))
        fresh = self._busy.pop(key)
        if key in self._again:
            # what came meanwhile may be the remedy, or only the echo of what failed
            fresh |= self._again.pop(key)
            delay = min(delay, AFTER_EVENT)
        if fresh:
            self._resync_at[key] = now
        self._delay(key, now + delay)
        return delay

    def gone(self, key: K, now: float) -> None:
        """Ends the work on a key that no longer exists."""
        self._failures.pop(key, None)
        self._due.pop(key, None)
        self._resync_at.pop(key, None)
        self._release(key, now)

    def next_due(self) -> float | None:
        """Returns when the next delayed key is due, None if none is."""
        while self._heap:
            when, serial, key = self._heap[0]
            if self._due.get(key, (0.0, -1))[1] == serial:
                return when
            heapq.heappop(self._heap)
        return None

    def depth(self) -> int:
        """Returns how many keys wait for a worker."""
        return len(self._ready)

    def oldest(self, now: float) -> float:
        """Returns for how many seconds the oldest ready key has waited, 0 if none does."""
        return now - next(iter(self._ready.values()))[0] if self._ready else 0.0

    def _release(self, key: K, now: float) -> None:
        del self._busy[key]
        if key in self._again:
            self.add(key, now, fresh=self._again.pop(key))

    def _delay(self, key: K, when: float) -> None:
        serial = next(self._serial)
        self._due[key] = (when, serial)
        heapq.heappush(self._heap, (when, serial, key))

    def _ripen(self, now: float) -> None:
        while (when := self.next_due()) is not None and when <= now:
            _, _, key = heapq.heappop(self._heap)
            del self._due[key]
            self.add(key, now)


def jitter(seconds: float) -> float:
    """Returns the duration times 0.8 to 1.2, so that what started together does not stay together."""
    return seconds * random.uniform(0.8, 1.2)


class WorkQueue(Generic[K]):
    """Runs work on keys with a fixed number of workers, until cancelled."""

    def __init__(
        self,
        work: Callable[[K, bool], Awaitable[Outcome]],
        *,
        workers: int,
        resync: float,
        clock: Callable[[], float],
        jitter: Callable[[float], float] = jitter,
    ) -> None:
        self._work = work
        self._workers = workers
        self._clock = clock
        self._schedule: Schedule[K] = Schedule(resync=resync, jitter=jitter)
        self._wake = asyncio.Event()

    def add(self, key: K, *, fresh: bool = False) -> None:
        """Asks for a key to be worked on. Costs nothing and never waits."""
        self._schedule.add(key, self._clock(), fresh=fresh)
        self._wake.set()

    def oldest(self) -> float:
        """Returns for how many seconds the oldest key has waited for a worker."""
        return self._schedule.oldest(self._clock())

    async def run(self) -> None:
        """Works until cancelled. An exception of the work is logged and tried again, never raised."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._worker(), name=f"reconcile worker {number}")

    async def _worker(self) -> None:
        while True:
            task = await self._next()
            await self._do(task)
            self._wake.set()

    async def _next(self) -> Task[K]:
        while True:
            self._wake.clear()
            now = self._clock()
            task = self._schedule.take(now)
            metrics.QUEUE_DEPTH.set(self._schedule.depth())
            metrics.QUEUE_OLDEST_SECONDS.set(self._schedule.oldest(now))
            if task is not None:
                self._wake.set()  # there may be more: let another worker look
                return task
            due = self._schedule.next_due()
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - now)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _do(self, task: Task[K]) -> None:
        try:
            with metrics.RECONCILE_SECONDS.time():
                outcome = await self._work(task.key, task.fresh)
        except Exception as error:
            delay = self._schedule.failed(task.key, self._clock())
            metrics.RECONCILES.labels("error").inc()
            log.warning(
                "reconcile failed",
                resource=str(task.key),
                error=f"{type(error).__name__}: {error}",
                retry_in=round(delay, 1),
                exc_info=not isinstance(error, OperatorError),
            )
            return
        if outcome.gone:
            metrics.RECONCILES.labels("gone").inc()
            self._schedule.gone(task.key, self._clock())
        else:
            metrics.RECONCILES.labels("ok").inc()
            self._schedule.done(task.key, self._clock(), look_again=outcome.look_again)
