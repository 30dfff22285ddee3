"""Who may make a prefetch Job now: so many at a time, and none to a hub that has asked for a pause.

What is kept here only bridges the time until the watches show it: a restarted operator learns from the Jobs
themselves how many run and which hub has asked for what. The order of those who wait is lost then.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from embedding_operator import naming
from embedding_operator.api import Body, Key
from embedding_operator.cache import prefetch
from embedding_operator.cache.prefetch import Failed
from embedding_operator.observed import is_true, timestamp

WAITING, HELD_BACK = "Waiting", "HeldBack"

STARTING = timedelta(minutes=2)
"""How long a Job without a running pod keeps its place: one that cannot start must not stop the others."""

_FORGOTTEN = timedelta(minutes=3)
"""Who has not asked for so long no longer waits. Longer than _LONGEST_LOOK with its jitter."""

_SHORTEST_LOOK, _LONGEST_LOOK = 2.0, 60.0


@dataclass(frozen=True)
class Wait:
    """Why there is no Job yet, and in how many seconds to ask again."""

    reason: str
    message: str
    seconds: float


@dataclass(frozen=True)
class _Pause:
    until: datetime
    asker: Key


class Line:
    """The line of the resources that want to fetch; for one event loop, nothing in it waits.

    jobs returns the prefetch Jobs of all resources as the watches have shown them; at most limit of them run.
    """

    def __init__(self, jobs: Callable[[], Iterable[Body]], limit: int) -> None:
        self._jobs = jobs
        self._limit = limit
        self._waiting: dict[Key, datetime] = {}  # in the order of coming, with the time of the last asking
        self._going: set[Key] = set()
        self._made: dict[str, tuple[Key, datetime]] = {}  # by uid, until the watches show it
        self._pauses: dict[str, _Pause] = {}

    def ask(self, key: Key, hub: str | None, now: datetime) -> Wait | None:
        """Returns None where a resource may make a Job that fetches from this hub, else why it has to wait.

        hub is None for a Job that asks nobody.
        After None the place is taken until `made` or `given_up`.
        """
        jobs = tuple(self._jobs())
        pause = self._pause(hub, jobs, now)
        if pause is not None and hub is not None:
            self.leave(key)
            return _held_back(hub, pause, now)
        self._waiting = {other: asked for other, asked in self._waiting.items() if now - asked < _FORGOTTEN}
        self._waiting[key] = now
        before = list(self._waiting).index(key)
        if before < self._limit - len(self._busy(jobs, now) - {key}):
            del self._waiting[key]
            self._going.add(key)
            return None
        return self._wait(before)

    def made(self, key: Key, job: Body, now: datetime) -> None:
        """Takes the Job that was made; its place is free again when it ends."""
        self._going.discard(key)
        self._made[job["metadata"]["uid"]] = key, now

    def given_up(self, key: Key) -> None:
        """Frees a place that was taken and came to nothing."""
        self._going.discard(key)

    def leave(self, key: Key) -> None:
        """Takes a resource out of the line that wants no Job any more."""
        self._waiting.pop(key, None)

    def pause(self, key: Key, hub: str, until: datetime) -> None:
        """Notes that a hub has asked, through the Job of this resource, not to be asked before."""
        known = self._pauses.get(hub)
        if known is None or known.until < until:
            self._pauses[hub] = _Pause(until, key)

    def _pause(self, hub: str | None, jobs: Iterable[Body], now: datetime) -> _Pause | None:
        for job in jobs:
            key = _key(job)
            state = prefetch.state(job, ()) if is_true(job, "Failed") else None
            if key is not None and isinstance(state, Failed) and state.failure.retry_after:
                asked = timedelta(seconds=state.failure.retry_after)
                self.pause(key, prefetch.hub(job), state.at + asked)
        self._pauses = {name: pause for name, pause in self._pauses.items() if pause.until > now}
        return self._pauses.get(hub) if hub is not None else None

    def _busy(self, jobs: Iterable[Body], now: datetime) -> set[Key]:
        """Returns the resources whose Job fetches, or is about to."""
        busy, shown = set(self._going), set()
        for job in jobs:
            shown.add(job["metadata"]["uid"])
            key = _key(job)
            if key is not None and _fetches(job, now):
                busy.add(key)
        self._made = {
            uid: (key, at)
            for uid, (key, at) in self._made.items()
            if uid not in shown and now - at < STARTING
        }
        return busy | {key for key, _ in self._made.values()}

    def _wait(self, before: int) -> Wait:
        return Wait(
            WAITING,
            f"place {before + 1} in the line: at most {self._limit} resources fetch their models at a time "
            f"(the operator's MAX_CONCURRENT_PREFETCHES)",
            min(_LONGEST_LOOK, _SHORTEST_LOOK * (before + 1)),
        )


def _held_back(hub: str, pause: _Pause, now: datetime) -> Wait:
    return Wait(
        HELD_BACK,
        f"{hub or 'the public hub'} limits the rate of requests, as it told {pause.asker}; it is not asked "
        f"before {pause.until:%H:%M:%S} UTC",
        max(1.0, (pause.until - now).total_seconds()),
    )


def _fetches(job: Body, now: datetime) -> bool:
    if prefetch.finished(job) or "deletionTimestamp" in job["metadata"]:
        return False
    created = timestamp(job["metadata"].get("creationTimestamp"))
    is_young = created is not None and now - created < STARTING
    return is_young or bool((job.get("status") or {}).get("ready"))


def _key(job: Body) -> Key | None:
    return naming.owner_key(job["metadata"]["namespace"], job["metadata"].get("labels"))
