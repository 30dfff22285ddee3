"""Brings a resource's prefetch Job one step further: makes, follows or repeats it, keeps its result."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

from embedding_operator import naming
from embedding_operator.api import Body, EmbeddingModel, Key
from embedding_operator.cache import caching, prefetch
from embedding_operator.cache.prefetch import Done, Failed, Lost, Missing, Pending, Progress, Running, State
from embedding_operator.errors import ApiError, ForbiddenError
from embedding_operator.facts import Failure
from embedding_operator.fetching.line import Line
from embedding_operator.fields import parse_quantity
from embedding_operator.health.pods import UNSCHEDULABLE
from embedding_operator.lookups import setbacks
from embedding_operator.observed import JOB, Observed, annotation, created, is_true
from embedding_operator.ports import Cluster
from embedding_operator.resources import cache, sources
from embedding_operator.resources.meta import Runtime
from embedding_operator.writer import Writer

PROGRESS_INTERVAL = timedelta(seconds=5)
"""How often a running Job's log is read, at most."""

NODES_INTERVAL = 20.0
"""Seconds between two looks for a node with the GPU; jittered to 15..30 by the queue's user."""

SETTING_UP, LONGEST_LOOK = 10.0, 300.0
"""Seconds that a pod may take to be set up before its Events are read, and between two looks at them: the
longer it lasts, the rarer."""


@dataclass(frozen=True)
class Step:
    """Where the Job stands after the step, and in how many seconds to look again without an event.

    before: what the attempt before failed of and somebody has to mend.
    """

    state: State
    progress: Progress | None = None
    look_again: float | None = None
    before: Failure | None = None


class _Make(Protocol):
    async def __call__(self, old: Body | None, *, attempt: int, before: Failure | None = None) -> Step: ...


class Prefetcher:
    """Follows the prefetch Jobs of all resources. Keeps the last progress read, to read each log rarely."""

    def __init__(
        self,
        cluster: Cluster,
        runtime: Runtime,
        line: Line,
        jitter: Callable[[float], float] = lambda seconds: seconds,
    ) -> None:
        self._cluster = cluster
        self._runtime = runtime
        self._line = line
        self._jitter = jitter
        self._progress: dict[Key, tuple[str, datetime, Progress | None]] = {}

    def forget(self, key: Key) -> None:
        """Drops what is kept for a resource that is gone."""
        self._progress.pop(key, None)

    async def step(
        self, seen: Observed, state: State, writer: Writer, now: datetime, commit: str | None = None
    ) -> Step:
        """Does what the state calls for and returns where that leaves the Job.

        commit is what this source was resolved to before, None where nobody knows.
        """
        make = partial(self._make, seen.em, writer, now, commit)
        job = seen.jobs.get(naming.job(seen.em))
        if job is not None and "deletionTimestamp" in job["metadata"]:
            return Step(state)
        if job is None or isinstance(state, Missing):
            return await make(None, attempt=1)
        if isinstance(state, Lost) or self._stale(seen, job, state, commit):
            return await make(job, attempt=1)
        if isinstance(state, Done):
            self.forget(seen.em.key)
            await self.keep(seen, job, writer)
            return Step(state)
        if isinstance(state, Failed):
            return await self._failed(seen, state, job, writer, now, make)
        if isinstance(state, Running):
            return await self.follow(seen, state, job, now)
        if isinstance(state, Pending) and state.reason == prefetch.STARTING:
            return await self.look_closer(seen, state, job, now)
        if isinstance(state, Pending) and state.reason == UNSCHEDULABLE:
            return await self._unscheduled(seen, state, job, now, make)
        return Step(state)

    async def _unscheduled(
        self, seen: Observed, state: Pending, job: Body, now: datetime, make: _Make
    ) -> Step:
        """The claim may have no volume; the nodes with the GPU may be others than when the Job was made."""
        closer = Step(state)
        if setbacks.without_volume(seen) is not None:
            closer = await self.look_closer(seen, state, job, now)
        if seen.em.gpu is None or closer.state != state:
            return closer
        return await self._reconsider(seen.em, state, job, make)

    async def _failed(
        self, seen: Observed, state: Failed, job: Body, writer: Writer, now: datetime, make: _Make
    ) -> Step:
        await self.note(seen, state, job, writer)
        due = caching.retry_at(state)
        if due is None:
            return Step(state)
        wait = (due - now).total_seconds()
        if wait > 0:
            return Step(state, look_again=wait)
        before = state.failure if state.failure.permanent else None
        step = await make(job, attempt=state.attempt + 1, before=before)
        # a place in the line is no news to somebody who has to mend what was wrong
        return replace(step, state=state) if before and isinstance(step.state, Pending) else step

    async def _make(
        self,
        em: EmbeddingModel,
        writer: Writer,
        now: datetime,
        commit: str | None,
        old: Body | None,
        *,
        attempt: int,
        before: Failure | None = None,
    ) -> Step:
        wait = self._line.ask(em.key, sources.asked(em, self._runtime), now)
        if wait is not None:
            return Step(Pending(wait.reason, wait.message), look_again=wait.seconds)
        try:
            return await self._make_now(em, writer, now, commit, old, attempt, before)
        finally:
            self._line.given_up(em.key)  # nothing where it was made

    async def _make_now(
        self,
        em: EmbeddingModel,
        writer: Writer,
        now: datetime,
        commit: str | None,
        old: Body | None,
        attempt: int,
        before: Failure | None,
    ) -> Step:
        hosts, missing = await self._hosts(em)
        if missing is not None:
            return Step(missing, look_again=self._jitter(NODES_INTERVAL))
        if old is None:
            old = await writer.check_free(JOB, naming.job(em))
            if old is not None and naming.is_labelled(old["metadata"].get("labels")):
                return Step(Missing())  # the watches lag: its event is under way
        if old is not None:
            await writer.delete(old)
        wanted = cache.job(em, self._runtime, commit=commit, attempt=attempt, hosts=hosts, before=before)
        made = await writer.create(wanted)
        self._line.made(em.key, made, now)
        return Step(Missing(), before=before)

    async def _reconsider(self, em: EmbeddingModel, state: Pending, job: Body, make: _Make) -> Step:
        hosts, missing = await self._hosts(em)
        if missing is not None:
            return Step(missing, look_again=self._jitter(NODES_INTERVAL))
        if _template(job).get("affinity") != _template(cache.job(em, self._runtime, hosts=hosts)).get(
            "affinity"
        ):
            return await make(job, attempt=1)
        return Step(state, look_again=self._jitter(NODES_INTERVAL))

    async def look_closer(self, seen: Observed, state: Pending, job: Body, now: datetime) -> Step:
        """Returns why a Job's pod is not there or not set up, which is told in Events only."""
        age = (now - created((job, *seen.pods_of(job))[-1])).total_seconds()
        if age < SETTING_UP:
            return Step(state, look_again=SETTING_UP - age)
        found = await setbacks.of_job(self._cluster, seen, state, job, now)
        return Step(found, look_again=self._jitter(min(LONGEST_LOOK, max(SETTING_UP, age / 10))))

    async def _hosts(self, em: EmbeddingModel) -> tuple[list[str] | None, Pending | None]:
        """Returns the nodes that the Job must run on (None: any), or why there is none."""
        if em.gpu is None or em.claimless:
            return None, None  # the Job binds no volume to its node
        want, lacks = f"{em.gpu.resource_name}: {em.gpu.count}", "install its device plugin"
        if em.gpu.claims:
            want, lacks = "devices to claim", "install the driver that publishes its ResourceSlices"
        try:
            if em.gpu.claims:
                hosts = await self._cluster.hosts_with_devices()
            else:
                hosts = await self._cluster.hosts_offering(em.gpu.resource_name, em.gpu.count)
        except ForbiddenError as error:
            return None, Pending("NoGPUNode", f"nodes that offer {want} cannot be looked up: {error.message}")
        if hosts == []:
            return None, Pending(
                "NoGPUNode",
                f"no node that takes pods offers {want}. Add one, or {lacks}; "
                f"or remove spec.gpu to run on the CPU.",
            )
        return hosts, None

    async def follow(self, seen: Observed, state: Running, job: Body, now: datetime) -> Step:
        """Returns how far a Job is by its log, which is read every few seconds at most."""
        pod, read_at, progress = self._progress.get(seen.em.key, ("", now, None))
        age = now - read_at
        if pod != state.pod or age >= PROGRESS_INTERVAL:
            try:
                tail = await self._cluster.log_tail(seen.em.namespace, state.pod, naming.PREFETCH_CONTAINER)
            except ApiError:
                tail = ""  # progress is a courtesy; the Job's end is an event
            until = prefetch.pause(tail)
            if until is not None:
                self._line.pause(seen.em.key, prefetch.hub(job), until)
            progress = prefetch.progress(tail) or (progress if pod == state.pod else None)
            self._progress[seen.em.key] = (state.pod, now, progress)
            age = timedelta()
        # a started container says something within its first second: look soon while it has not
        pause = PROGRESS_INTERVAL if progress else timedelta(seconds=2)
        return Step(state, progress, look_again=max(0.5, (pause - age).total_seconds()))

    async def note(self, seen: Observed, state: Failed, job: Body, writer: Writer) -> None:
        """Keeps what a Job failed of, and the pause that it was asked for."""
        self.forget(seen.em.key)
        await self.keep(seen, job, writer)
        if state.failure.retry_after:
            until = state.at + timedelta(seconds=state.failure.retry_after)
            self._line.pause(seen.em.key, prefetch.hub(job), until)

    async def keep(self, seen: Observed, job: Body, writer: Writer) -> None:
        """Keeps the result of a Job that has ended on the Job itself: its pod may go."""
        result = prefetch.raw_result(job, seen.pods_of(job))
        if result is not None and prefetch.finished(job):
            await writer.record(job, naming.RESULT_ANNOTATION, result)

    def _stale(self, seen: Observed, job: Body, state: State, commit: str | None) -> bool:
        """Returns whether the Job's work is not, or cannot become, what is wanted now.

        A claim that is younger than its Job is empty. A Job that has not ended well is made again where the
        operator would make another one today: another image or hub may be just what it lacked.
        """
        claim = seen.claims.get(naming.claim(seen.em))
        if claim is not None and created(job) < created(claim):
            return True
        if isinstance(state, Done):
            return False
        if isinstance(state, Failed) and state.failure.reason == "DiskFull" and _grown(seen.em, job, claim):
            return True
        wanted = cache.job(seen.em, self._runtime, commit=commit)
        return work(job) != work(wanted) or placed(job) != placed(wanted)


def filled(seen: Observed, deployment: Body | None) -> bool:
    """Returns whether the wanted claim is older than a set that serves from it: then it is not empty.

    A claim of somebody else is not watched: that a set serves from it has to do. Pods that fetch for
    themselves need none.
    """
    if not seen.em.makes_claim:
        return deployment is not None
    claim = seen.claims.get(naming.claim(seen.em))
    return claim is not None and deployment is not None and created(claim) <= created(deployment)


def _grown(em: EmbeddingModel, job: Body, claim: Body | None) -> bool:
    """Returns whether a larger size has been asked for since the Job was made, and the volume has it."""
    before = parse_quantity(annotation(job, naming.SIZE_ANNOTATION) or "")
    wanted = parse_quantity(em.cache.size or "")
    if claim is None or before is None or wanted is None or wanted <= before:
        return False
    has = parse_quantity(str(((claim.get("status") or {}).get("capacity") or {}).get("storage", "")))
    # the file system grows when a pod mounts the volume, and only then does the capacity follow
    return (has is not None and has >= wanted) or is_true(claim, "FileSystemResizePending")


def _template(job: Body) -> Body:
    found: Body = job["spec"]["template"]["spec"]
    return found


def placed(job: Body) -> str | None:
    """Returns the digest of the rules about where a Job may run."""
    return annotation(job, naming.PLACEMENT_ANNOTATION)


def work(job: Body) -> dict[str, Any]:
    """Returns what tells a Job from one that might come to another result."""
    container = _template(job)["containers"][0]
    return {
        "image": container["image"],
        "args": container.get("args"),
        "env": {
            item["name"]: item.get("valueFrom") or item.get("value", "")
            for item in container.get("env") or ()
        },
        "before": [
            (begin["name"], begin["image"], begin.get("command"))
            for begin in _template(job).get("initContainers") or ()
        ],
        "mounted": [
            volume["image"]["reference"]
            for volume in _template(job).get("volumes") or ()
            if "image" in volume
        ],
        # a place on the node's disk; a claim is told by its own size
        "room": [
            parse_quantity(volume["emptyDir"].get("sizeLimit", "0"))
            for volume in _template(job).get("volumes") or ()
            if volume["name"] == naming.MODELS_VOLUME and "emptyDir" in volume
        ],
        "certificates": [
            (volume["configMap"]["name"], volume["configMap"].get("items"))
            for volume in _template(job).get("volumes") or ()
            if volume["name"] == naming.CERTIFICATES_VOLUME
        ],
    }
