"""Which sets there should be, which one the Service selects, and what may go: pure decisions from what is
observed.

A set is the Deployment of one fingerprint. Two fingerprints are two embedding spaces: the new set comes up
beside the old one and the Service moves at once, when all of the new one is available.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from embedding_operator import facts as facts_of
from embedding_operator import naming
from embedding_operator.api import Body, EmbeddingModel
from embedding_operator.cache import advice, following, prefetch, sizing
from embedding_operator.cache.prefetch import Done, Pending, Retrying, Running, State
from embedding_operator.facts import Facts
from embedding_operator.health import pods
from embedding_operator.health.pods import Problem
from embedding_operator.observed import (
    BUDGET,
    CLAIM,
    DEPLOYMENT,
    JOB,
    SERVICE,
    Observed,
    annotation,
    condition,
    timestamp,
)
from embedding_operator.sets import missing, revisions
from embedding_operator.sets.revisions import Choice

DRAIN = timedelta(seconds=5)
"""How long a set stays after the Service moved away from it: nodes learn of the move one after the other."""


@dataclass(frozen=True)
class Plan:
    """What the next writes should bring about.

    wanted: what the spec asks for, None while nobody knows its fingerprint. serving: the set behind the
    Service after this step. sets: every set to keep applied. prune: (kind, name) of what no longer serves
    anything. look_again: when something will be ready for pruning, which no event announces.
    """

    wanted: Facts | None
    serving: Facts | None
    sets: tuple[Facts, ...]
    prune: tuple[tuple[str, str], ...]
    look_again: datetime | None

    @property
    def switching(self) -> bool:
        """Whether the Service still selects another set than the one that is wanted."""
        return self.wanted is not None and self.serving is not None and not same(self.wanted, self.serving)


@dataclass(frozen=True)
class Progress:
    """The pods of one set, as its Deployment counts them."""

    exists: bool
    current: bool
    total: int
    updated: int
    ready: int
    available: int

    def complete(self, count: int) -> bool:
        """Returns whether exactly this many pods run, all of the newest template and all available."""
        return self.current and self.total == self.updated == self.available == count


def replicas(em: EmbeddingModel) -> int:
    """Returns how many pods each set is to have now."""
    return 0 if em.suspended else em.replicas


def paused(em: EmbeddingModel) -> bool:
    """Returns whether the resource's user wants nothing to be written but its status."""
    return annotation(em.body, naming.PAUSED_ANNOTATION) == "true"


def plan(seen: Observed, state: State, now: datetime) -> Plan:
    """Returns what to bring about next. While the resource is paused the Service stays where it is."""
    recorded = facts_of.recorded(seen)
    wanted = _wanted(seen, state, recorded)
    old = _old(seen, wanted, recorded)
    serving = wanted
    if wanted is None or (old is not None and not same(old, wanted) and not _may_move(seen, wanted, old)):
        serving = old
    sets = [wanted] if wanted else []
    if serving is not None and (wanted is None or not same(serving, wanted)):
        sets.append(serving)
    prune, look_again = _prune(seen, serving, sets, now)
    return Plan(wanted, serving, tuple(sets), prune, look_again)


def same(one: Facts, other: Facts) -> bool:
    """Returns whether two sources are one embedding space, and so share a Deployment."""
    return naming.short(one.fingerprint) == naming.short(other.fingerprint)


def progress(seen: Observed, facts: Facts) -> Progress:
    """Returns how far the set of these facts is."""
    body = seen.deployments.get(naming.deployment(seen.em, facts.fingerprint))
    if body is None:
        return Progress(False, False, 0, 0, 0, 0)
    status = body.get("status") or {}
    return Progress(
        exists=True,
        current=status.get("observedGeneration", 0) >= body["metadata"].get("generation", 0),
        total=status.get("replicas", 0),
        updated=status.get("updatedReplicas", 0),
        ready=status.get("readyReplicas", 0),
        available=status.get("availableReplicas", 0),
    )


def problem(seen: Observed, facts: Facts) -> Problem | None:
    """Returns why pods of a set are not ready, or why there are none; None where nothing is wrong."""
    body = seen.deployments.get(naming.deployment(seen.em, facts.fingerprint))
    refused = condition({"status": (body or {}).get("status")}, "ReplicaFailure")
    if refused is not None and refused.get("status") == "True":
        return Problem("PodsRejected", f"pods cannot be created: {pods.clip(refused.get('message'))}", 80)
    found = seen.pods_with(naming.selector(seen.em.name, facts.fingerprint))
    worst = pods.worst(found, naming.CONTAINER, seen.heard)
    return worst and missing.named(seen.em, advice.own(seen.em, worst))


def template(seen: Observed, plan: Plan, facts: Facts, desired: Body, *, patient: bool = False) -> Choice:
    """Returns what the pods of a planned set are made from; desired is what the spec would make them from.

    Without pods, and while paused, nothing new is found out about a template; while patient, nothing bad.
    """
    name = naming.deployment(seen.em, facts.fingerprint)
    known = revisions.history(seen, name)
    if plan.wanted is None or not same(facts, plan.wanted):
        return revisions.hold(desired, known)
    count = replicas(seen.em)
    return revisions.choose(
        desired,
        known,
        seen.deployments.get(name) if count and not paused(seen.em) else None,
        complete=progress(seen, facts).complete(count),
        retry=annotation(seen.em.body, naming.RETRY_ANNOTATION) or "",
        why=problem(seen, facts),
        patient=patient,
        stands_in=plan.switching,
    )


def service_moves(service: Body | None, serving: Facts) -> bool:
    """Returns whether applying the Service for this set would move it away from another one."""
    return service is not None and _selected(service) not in (None, naming.short(serving.fingerprint))


def _wanted(seen: Observed, state: State, recorded: dict[str, Facts]) -> Facts | None:
    if isinstance(state, Done):
        return state.facts
    asked = naming.job(seen.em)
    return next((facts for facts in recorded.values() if facts.job == asked), None)


def _old(seen: Observed, wanted: Facts | None, recorded: dict[str, Facts]) -> Facts | None:
    """Returns the set behind the Service, or the one that should be where the Service is gone or was bent."""
    service = seen.services.get(seen.em.name)
    selected = _selected(service) if service else None
    if wanted is not None and selected == naming.short(wanted.fingerprint):
        return wanted
    if selected in recorded:
        return recorded[selected]
    if selected is not None and (kept := _from_jobs(seen).get(selected)):
        return kept
    others = [facts for facts in recorded.values() if wanted is None or not same(facts, wanted)]
    return others[-1] if others else None


def _from_jobs(seen: Observed) -> dict[str, Facts]:
    """Returns what finished Jobs recorded, by fingerprint: for a set whose Deployment was removed by hand."""
    found: dict[str, Facts] = {}
    for body in seen.jobs.values():
        state = prefetch.state(body, seen.pods_of(body))
        if isinstance(state, Done):
            found[naming.short(state.facts.fingerprint)] = state.facts
    return found


def _may_move(seen: Observed, wanted: Facts, old: Facts) -> bool:
    """Returns whether the Service may move.

    It does to as many pods as are wanted; where there is no room for so many beside the old ones, to as many
    as answer now.
    """
    if paused(seen.em):
        return False
    pods, enough = progress(seen, wanted), replicas(seen.em)
    live = seen.deployments.get(naming.deployment(seen.em, wanted.fingerprint))
    if live is not None and annotation(live, naming.ROOM_ANNOTATION) is not None:
        enough = min(enough, max(1, progress(seen, old).ready))
    return pods.exists and pods.current and min(pods.available, pods.updated) >= enough


def _prune(
    seen: Observed, serving: Facts | None, sets: list[Facts], now: datetime
) -> tuple[tuple[tuple[str, str], ...], datetime | None]:
    em = seen.em
    kept = {naming.deployment(em, facts.fingerprint) for facts in sets}
    extra = [name for name in seen.deployments if name not in kept]
    settled = _settled(seen, serving)
    look_again = settled if extra and settled is not None and settled > now else None
    prune = [] if settled is None or settled > now else [(DEPLOYMENT, name) for name in extra]
    jobs, claims = _in_use(seen, sets)
    prune += [(JOB, name) for name, body in seen.jobs.items() if name not in jobs or _to_stop(seen, body)]
    prune += [(CLAIM, name) for name in seen.claims if name not in claims]
    prune += [(kind, name) for kind in (SERVICE, BUDGET) for name in seen.of(kind) if name != em.name]
    return tuple(prune), look_again


def _to_stop(seen: Observed, job: Body) -> bool:
    """Returns whether a Job works though the resource is suspended; an ended one stays, as the record."""
    state = prefetch.state(job, seen.pods_of(job))
    return seen.em.suspended and isinstance(state, Pending | Running | Retrying)


def _settled(seen: Observed, serving: Facts | None) -> datetime | None:
    """Returns when the Service will have selected this set for long enough, None where it does not."""
    service = seen.services.get(seen.em.name)
    if service is None:
        return datetime.min.replace(tzinfo=UTC) if serving is None else None
    if serving is None or _selected(service) != naming.short(serving.fingerprint):
        return None
    moved = max(
        (
            at
            for entry in service["metadata"].get("managedFields") or ()
            if entry.get("manager") == naming.FIELD_MANAGER and (at := timestamp(entry.get("time")))
        ),
        default=timestamp(service["metadata"].get("creationTimestamp")),
    )
    return moved + DRAIN if moved else None


def _in_use(seen: Observed, sets: list[Facts]) -> tuple[set[str], set[str]]:
    """Returns the names of the Jobs and claims that something wanted or running still stands on."""
    standing = [*sets, *facts_of.recorded(seen).values()]
    jobs = {
        naming.job(seen.em),
        *sizing.jobs(seen),
        *following.kept(seen),
        *(facts.job for facts in standing),
    }
    claims = {naming.claim(seen.em)} | {facts.claim for facts in standing}
    good = [revisions.last_good(revisions.history(seen, name)) for name in seen.deployments]
    templates = [version.template for version in good if version is not None]
    for pod in [*seen.pods, *templates]:
        for volume in pod["spec"].get("volumes") or ():
            claims.add((volume.get("persistentVolumeClaim") or {}).get("claimName", ""))
    return jobs, claims


def _selected(service: Body) -> str | None:
    found: str | None = (service["spec"].get("selector") or {}).get(naming.FINGERPRINT_LABEL)
    return found
