"""Reads in Events what pods and Jobs do not say: why a volume cannot be mounted or a pod not be created, and
which probe had the server killed. What is kept only saves requests.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from embedding_operator import naming
from embedding_operator.api import Body, Key
from embedding_operator.cache import prefetch
from embedding_operator.cache.prefetch import Pending
from embedding_operator.errors import ApiError
from embedding_operator.health import incidents, pods
from embedding_operator.naming import CONTAINER
from embedding_operator.observed import Observed, condition, created, timestamp
from embedding_operator.ports import Cluster
from embedding_operator.readiness import Setback

PATIENCE = timedelta(seconds=10)
"""How long a pod may take to be set up before its Events are read."""

EVENTS_STAY = timedelta(hours=1)
"""How long the API server keeps Events, unless it is told otherwise."""

_BY_SIGNAL = (0, 128 + 9, 128 + 15)
"""How a server ends that is told to: well, or not before it is killed."""

_EARLIEST = datetime.min.replace(tzinfo=UTC)

REJECTED = "PodsRejected"

SHORTEST, LONGEST = timedelta(seconds=20), timedelta(minutes=5)
"""Between two looks at a pod's Events: the longer it lasts, the rarer."""


@dataclass(frozen=True)
class _Look:
    """What was read, and when last. mark tells pods, and runs of a pod's container, apart; first is its first
    look.
    """

    mark: str
    first: datetime
    at: datetime
    found: Setback | None

    @property
    def due(self) -> datetime:
        """When to look again."""
        return self.at + min(LONGEST, max(SHORTEST, (self.at - self.first) / 10))


class Setbacks:
    """Looks for all resources; of each only at the pod that has waited longest."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._looks: dict[Key, _Look] = {}

    def forget(self, key: Key) -> None:
        """Drops what is kept for a resource that is gone, or whose pods have no such trouble."""
        self._looks.pop(key, None)

    async def look(self, seen: Observed, now: datetime) -> tuple[Observed, datetime | None]:
        """Returns the view with what was found out about a pod, and when to look again, None where never."""
        key = seen.em.key
        since, pod = next(((since, pod) for pod in _serving(seen) if (since := _since(pod))), (None, None))
        if since is None or pod is None:
            self.forget(key)
            return seen, None
        if since > now:
            return seen, since
        uid = pod["metadata"]["uid"]
        mark = f"{uid} {pods.restarts(pod, CONTAINER)}"
        last = self._looks.get(key)
        if last is None or last.mark != mark:
            last = self._looks[key] = _Look(mark, now, now, await self._read(pod, since))
        elif last.due <= now:
            last = self._looks[key] = replace(last, at=now, found=await self._read(pod, since))
        heard = {**seen.heard, uid: last.found} if last.found else seen.heard
        return replace(seen, heard=heard), last.due

    async def _read(self, pod: Body, since: datetime) -> Setback | None:
        metadata = pod["metadata"]
        try:
            told = await self._cluster.incidents(metadata["namespace"], "Pod", metadata["name"])
        except ApiError:
            return None  # known a little later
        if pods.is_set_up(pod):
            words = incidents.mount_failure(told)
            return Setback(pods.UNMOUNTED, f"its node cannot set the pod up: {words}") if words else None
        words = incidents.killed_by(told, CONTAINER, since)
        return Setback("ProbeFailed", f"container {CONTAINER} was killed: {words}") if words else None


async def of_job(cluster: Cluster, seen: Observed, state: Pending, job: Body, now: datetime) -> Pending:
    """Returns why the pod of a Job is not there, or is not set up; the state where nobody says so."""
    pods_of_job, namespace = seen.pods_of(job), seen.em.namespace
    try:
        if not pods_of_job:
            told = await cluster.incidents(namespace, "Job", job["metadata"]["name"])
            words = incidents.refused_pod(told)
            return (
                Pending(REJECTED, f"the Job's pod cannot be created: {pods.clip(words)}") if words else state
            )
        if (claim := without_volume(seen)) is not None:
            told = await cluster.incidents(namespace, "PersistentVolumeClaim", claim["metadata"]["name"])
            if words := incidents.unbound(told, now - created(claim)):
                return Pending(prefetch.UNBOUND, pods.clip(words))
        if state.reason != prefetch.STARTING:
            return state
        name = pods_of_job[-1]["metadata"]["name"]
        words = incidents.mount_failure(await cluster.incidents(namespace, "Pod", name))
    except ApiError:
        return state  # known a little later
    return Pending(prefetch.UNMOUNTED, f"prefetch pod {name}: {pods.clip(words)}") if words else state


def without_volume(seen: Observed) -> Body | None:
    """Returns the claim that the model goes into, where it has no volume yet."""
    claim = seen.claims.get(naming.claim(seen.em))
    return claim if claim and (claim.get("status") or {}).get("phase") == "Pending" else None


def _since(pod: Body) -> datetime | None:
    """Returns from when a pod's Events are worth a look, None where its own status says all."""
    if pods.is_set_up(pod):
        placed = condition(pod, "PodScheduled") or {}
        return (timestamp(placed.get("lastTransitionTime")) or _EARLIEST) + PATIENCE
    return _run(pod)


def _run(pod: Body) -> datetime | None:
    """Returns from when on an Event may be about the last end of the server's container, None where it has
    none.

    A node that writes about the same over and over keeps silent after a while: what ends by a signal has
    ended by the same as before.
    """
    ended = pods.ended_run(pod, CONTAINER)
    started = timestamp(ended.get("startedAt")) if ended else None
    if ended is None or started is None:
        return None
    return started - EVENTS_STAY if ended.get("exitCode") in _BY_SIGNAL else started


def _serving(seen: Observed) -> tuple[Body, ...]:
    return seen.pods_with({naming.COMPONENT_LABEL: "serving"})
