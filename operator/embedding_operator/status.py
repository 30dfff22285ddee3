"""From what was observed and planned to the resource's status: pure, the clock is passed in.

What the conditions mean is described in the CRD. Reasons are words for programs and stay as they are;
messages say what is the matter and what to do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from embedding_operator import events, naming
from embedding_operator.api import EmbeddingModel
from embedding_operator.cache import volumes
from embedding_operator.cache.caching import Cached
from embedding_operator.facts import Facts
from embedding_operator.health import pods
from embedding_operator.health.computing import CPU_FALLBACK, Computing, computing
from embedding_operator.health.pods import Problem
from embedding_operator.observed import Observed, stamp
from embedding_operator.resources import options
from embedding_operator.resources.deployment import resources
from embedding_operator.sets import revisions, rollout, surge
from embedding_operator.sets.course import Course
from embedding_operator.sets.revisions import Choice
from embedding_operator.sets.rollout import Plan

ORDER = ("Accepted", "Cached", "Scheduled", "Available", "Progressing", "Reconciling", "Stalled", "Ready")
OVERDUE = "ProgressDeadlineExceeded"


@dataclass(frozen=True)
class Verdict:
    """One condition without its time."""

    holds: bool
    reason: str
    message: str


ACCEPTED = Verdict(True, "Accepted", "the spec is acted on")
ONE_NODE = "OneNode"
SUSPENDED = Verdict(
    False, "Suspended", "spec.suspend is true: no pod and no Job runs; the claim and the Service are kept"
)
_PAUSED = (
    f'the annotation {naming.PAUSED_ANNOTATION} is "true": nothing is written but this status. '
    "Remove the annotation to go on"
)
_SCALED_TO_ZERO = Verdict(False, "ScaledToZero", "spec.replicas is 0: no pod runs, the cache is kept")
_SCALED_TO_ZERO_READY = replace(_SCALED_TO_ZERO, holds=True)
_NO_CACHE = Verdict(False, "WaitingForCache", "no pod runs before the model is cached; see Cached")
_NO_SERVICE = Verdict(False, pods.STARTING, "the Service is being created")


def accepted(em: EmbeddingModel) -> Verdict:
    """Returns the Accepted condition of a spec that is acted on, with what its user may not expect."""
    words = volumes.note(em)
    return Verdict(True, ONE_NODE, f"{ACCEPTED.message}; {words}") if words else ACCEPTED


def status(
    seen: Observed,
    plan: Plan,
    way: Course,
    cached: Cached,
    accepted: Verdict,
    now: datetime,
) -> dict[str, Any]:
    """Returns the whole status. Times of conditions that did not flip are taken from the present one."""
    em = seen.em
    used = computing(seen, plan.serving)
    verdicts = _verdicts(seen, plan, way, cached, accepted, used)
    shown = plan.serving or plan.wanted
    progress = rollout.progress(seen, plan.serving) if plan.serving else None
    ready, total = (progress.ready, progress.total) if progress else (0, 0)
    found: dict[str, Any] = {
        "observedGeneration": em.generation,
        "conditions": _conditions(em, verdicts, now),
        "replicas": total,
        "readyReplicas": ready,
        "selector": _selector(em, plan.serving),
        "cache": _cache(cached),
        "summary": _summary(em, verdicts["Ready"], ready, used),
    }
    if accepted.holds or em.name in seen.services:
        found["url"] = naming.url(em)
    choice = way.choice(plan.wanted)
    if plan.wanted is not None and choice is not None:
        there = seen.deployments.get(naming.deployment(em, plan.wanted.fingerprint))
        strategy = "Replace" if way.replaces else "Surge"
        found["rollout"] = _rollout(choice, revisions.applied_in(there)) | {"strategy": strategy}
    if used is not None:
        told = {"provider": used.provider, "precision": used.precision}
        found |= {name: value for name, value in told.items() if value}
    if shown is not None:
        found |= {"fingerprint": shown.fingerprint, "model": _model(shown)}
        found["resources"] = resources(em, plan.wanted or shown).to_json()
        if not shown.folder:
            found["resolvedRevision"] = _commit(seen, way, shown)
    happened = em.status.get("events") if rollout.paused(em) else events.kept(em.status, found, now)
    return found | {"events": happened} if happened else found


def ready(status_: Mapping[str, Any]) -> tuple[str, str, str]:
    """Returns status, reason and message of a status's Ready condition; empty before the first."""
    for item in status_.get("conditions") or ():
        if item.get("type") == "Ready":
            return item["status"], item["reason"], item["message"]
    return "", "", ""


def _verdicts(
    seen: Observed,
    plan: Plan,
    way: Course,
    cached: Cached,
    accepted: Verdict,
    used: Computing | None,
) -> dict[str, Verdict]:
    found = {
        "Accepted": accepted,
        "Cached": Verdict(cached.holds, cached.reason, cached.message),
        "Scheduled": _scheduled(seen, plan, way),
        "Available": _available(seen, plan, accepted, used),
    }
    choice = way.choice(plan.wanted)
    gave_up = _gave_up(seen.em, choice) if choice else None
    found["Progressing"] = _progressing(seen, plan, way, cached, accepted, gave_up)
    found["Stalled"] = _stalled(seen.em, way, cached, accepted, gave_up)
    found["Ready"] = _ready(seen, plan, found)
    found["Reconciling"] = _reconciling(seen.em, found)
    return _paused(found) if rollout.paused(seen.em) else found


def _paused(found: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """Returns the same verdicts for a resource that is left as it is, whatever there were to do."""
    going, ready = found["Progressing"], found["Ready"]
    # what is only unfinished stays so; a root cause stays the reason
    reason = "Paused" if not ready.holds and going.holds and ready.reason == going.reason else ready.reason
    return {
        **found,
        "Progressing": Verdict(False, "Paused", f"{_PAUSED}. Last: {going.message}"),
        "Reconciling": Verdict(False, "Paused", _PAUSED),
        "Ready": Verdict(ready.holds, reason, f"{ready.message}. Paused: {_PAUSED}"),
    }


def _scheduled(seen: Observed, plan: Plan, way: Course) -> Verdict:
    em, facts = seen.em, plan.wanted or plan.serving
    if em.suspended:
        return SUSPENDED
    if em.replicas == 0:
        return _SCALED_TO_ZERO
    if facts is None:
        return _NO_CACHE
    found = seen.pods_with(naming.selector(em.name, facts.fingerprint))
    problems = [pods.diagnosis(pod, naming.CONTAINER) for pod in found]
    waiting = [problem.message for problem in problems if problem and problem.reason == pods.UNSCHEDULABLE]
    if waiting:
        words = f"{len(waiting)} of {len(found)} pods: {waiting[0]}"
        words = f"{words.rstrip('. ')}. {way.scarcity}" if way.scarcity else words
        shared = volumes.note(em)
        return Verdict(
            False, pods.UNSCHEDULABLE, f"{words.rstrip('. ')}. Note: {shared}" if shared else words
        )
    if len(found) < em.replicas:
        return Verdict(False, pods.STARTING, f"{len(found)} of {em.replicas} pods are there")
    return Verdict(True, "Scheduled", "the scheduler has turned no pod down")


def _available(seen: Observed, plan: Plan, accepted: Verdict, used: Computing | None) -> Verdict:
    em, facts = seen.em, plan.serving
    if em.suspended:
        return SUSPENDED
    if em.replicas == 0:
        return _SCALED_TO_ZERO
    if facts is None:
        return _NO_CACHE
    if em.name not in seen.services:
        return Verdict(False, accepted.reason, accepted.message) if not accepted.holds else _NO_SERVICE
    progress = rollout.progress(seen, facts)
    if progress.ready > 0:
        words = f"{progress.ready} of {em.replicas} pods answer at {naming.url(em)}"
        if used is not None and used.fallback:
            return Verdict(True, CPU_FALLBACK, f"{words}; {pods.clip(used.fallback)}")
        return Verdict(True, "Available", words)
    problem = rollout.problem(seen, facts) or _uncounted(seen, facts)
    return Verdict(False, problem.reason, problem.message)


def _gave_up(em: EmbeddingModel, choice: Choice) -> Verdict | None:
    """Returns what became of a pod template that was not ready in time, None where none was late."""
    if choice.failure is None:
        return None
    late = (
        f"pod template {choice.wanted} did not become ready within {em.rollout.progress_deadline} s: "
        f"{choice.failure.reason}: {choice.failure.message}"
    )
    again = f"Correct the spec, or try again by another value of the annotation {naming.RETRY_ANNOTATION}"
    if choice.abandoned:
        return Verdict(False, "RolledBack", f"{late}. The set of before serves on, whole. {again}")
    if not choice.rolled_back:
        return Verdict(False, OVERDUE, f"{late}. There is no other that was ready before; correct the spec")
    return Verdict(
        False,
        "RolledBack",
        f"{late}. Template {choice.current}, the last that was ready, serves instead. {again}",
    )


def _stalled(
    em: EmbeddingModel, way: Course, cached: Cached, accepted: Verdict, gave_up: Verdict | None
) -> Verdict:
    """Returns whether nothing more will happen by itself (the meaning that kstatus gives the condition)."""
    if not accepted.holds:
        return Verdict(accepted.reason != "WaitingForRemoval", accepted.reason, accepted.message)
    if cached.stuck and not em.suspended:
        return Verdict(True, cached.reason, cached.message)
    if gave_up is not None:
        return replace(gave_up, holds=True)
    if way.notice is not None and way.notice.stalled:
        return Verdict(True, way.notice.reason, way.notice.message)
    return Verdict(False, "NotStalled", "nothing waits for a change of the spec")


def _progressing(
    seen: Observed,
    plan: Plan,
    way: Course,
    cached: Cached,
    accepted: Verdict,
    gave_up: Verdict | None,
) -> Verdict:
    if not accepted.holds:
        return Verdict(False, accepted.reason, accepted.message)
    if seen.em.suspended:
        left = rollout.progress(seen, plan.serving).total if plan.serving else 0
        going = f"{left} pods are being removed" if left else SUSPENDED.message
        return Verdict(left > 0, SUSPENDED.reason, going)
    if not cached.holds:
        return Verdict(not cached.stuck, cached.reason, cached.message)
    facts = plan.wanted
    if facts is None:
        return Verdict(True, "Caching", cached.message)
    if gave_up is not None:
        return gave_up
    if (notice := way.notice) is not None:
        return Verdict(not notice.stalled, notice.reason, notice.message)
    progress = rollout.progress(seen, facts)
    if not progress.complete(seen.em.replicas):
        problem = rollout.problem(seen, facts)
        words = f": {problem.message}" if problem else ""
        return Verdict(
            True,
            "RollingOut",
            f"{progress.available} of {seen.em.replicas} pods of set {naming.short(facts.fingerprint)} "
            f"are available{words}{_leaving(way)}",
        )
    if plan.switching:
        return Verdict(True, "Switching", "the Service moves to the new set")
    return Verdict(False, "Complete", "nothing is left to do")


def _leaving(way: Course) -> str:
    if way.since is None:
        return ""
    return f". Since {stamp(way.since)} pods of before leave first: no node had room for one more"


def _ready(seen: Observed, plan: Plan, found: Mapping[str, Verdict]) -> Verdict:
    if found["Accepted"].holds and seen.em.suspended:
        return SUSPENDED
    for kind in ("Accepted", "Cached"):
        if not found[kind].holds:
            return Verdict(False, found[kind].reason, found[kind].message)
    idle = seen.em.replicas == 0  # all of the spec is there, and what is not Available was not asked for
    if not found["Available"].holds and not idle:
        return Verdict(False, found["Available"].reason, found["Available"].message)
    if found["Stalled"].holds:
        return replace(found["Stalled"], holds=False)
    if found["Progressing"].holds:
        problem = rollout.problem(seen, plan.wanted) if plan.wanted else None
        if found["Progressing"].reason == surge.WILL_INTERRUPT:
            problem = None  # what is about to happen has to be told now
        if problem is not None and problem.rank >= pods.ROOT_CAUSE:
            return Verdict(False, problem.reason, problem.message)
        return Verdict(False, found["Progressing"].reason, found["Progressing"].message)
    if idle:
        return _SCALED_TO_ZERO_READY
    fallen = found["Available"].reason == CPU_FALLBACK
    return Verdict(True, CPU_FALLBACK if fallen else "Ready", found["Available"].message)


def _reconciling(em: EmbeddingModel, found: Mapping[str, Verdict]) -> Verdict:
    """Returns whether what is missing comes by itself, as kstatus and Flux read it: never beside Stalled.

    Progressing says what is being done; this also holds while something else has to happen first, such as the
    removal of what an earlier resource of the name left.
    """
    going, ready = found["Progressing"], found["Ready"]
    at_rest = ready.holds or found["Stalled"].holds or (em.suspended and not going.holds)
    return replace(going if at_rest or going.holds else ready, holds=not at_rest)


def _uncounted(seen: Observed, facts: Facts) -> Problem:
    """Returns why nothing is ready though no pod has a problem: it is not there, or not counted."""
    if seen.pods_with(naming.selector(seen.em.name, facts.fingerprint)):
        return Problem(pods.NOT_READY, "the pods are ready, the Deployment has not counted them yet", 0)
    return Problem(pods.STARTING, "the pods are being created", 0)


def _conditions(em: EmbeddingModel, verdicts: Mapping[str, Verdict], now: datetime) -> list[dict[str, Any]]:
    before = {item["type"]: item for item in em.status.get("conditions") or ()}
    return [
        {
            "type": kind,
            "status": str(verdict.holds),
            "reason": verdict.reason,
            "message": verdict.message[:4096],
            "observedGeneration": em.generation,
            "lastTransitionTime": before[kind]["lastTransitionTime"]
            if kind in before and before[kind]["status"] == str(verdict.holds)
            else stamp(now),
        }
        for kind in ORDER
        for verdict in [verdicts[kind]]
    ]


def _rollout(choice: Choice, applied: str | None) -> dict[str, Any]:
    found = {
        "current": applied,
        "lastGood": choice.last_good,
        "failed": choice.wanted if choice.failure else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _selector(em: EmbeddingModel, serving: Facts | None) -> str:
    chosen = (
        naming.selector(em.name, serving.fingerprint)
        if serving
        else {naming.MODEL_LABEL: em.name, naming.COMPONENT_LABEL: "serving"}
    )
    return ",".join(f"{key}={value}" for key, value in sorted(chosen.items()))


def _model(facts: Facts) -> dict[str, Any]:
    found = {
        "task": facts.task,
        "dimensions": facts.dimensions,
        "maxTokens": facts.max_tokens,
        "bytes": facts.bytes,
        "precision": facts.precision,
    }
    return {name: value for name, value in found.items() if value is not None}


def _commit(seen: Observed, way: Course, facts: Facts) -> str:
    """Returns the commit that the pods of a set serve: of an older template, where they are made from one."""
    choice, name = way.choice(facts), naming.deployment(seen.em, facts.fingerprint)
    kept = revisions.kept_options(seen, name, choice.current) if choice else ""
    return options.revision_in(kept) or facts.commit


def _cache(cached: Cached) -> dict[str, Any]:
    found: dict[str, Any] = {"phase": cached.phase, "message": cached.message[:4096]}
    if cached.bytes is not None:
        found["bytes"] = cached.bytes
    if cached.bytes is not None and cached.total:
        found["total"] = cached.total
        found["percent"] = min(100, cached.bytes * 100 // cached.total)
    if cached.size is not None:
        found |= {"size": cached.size.quantity, "sizeReason": cached.size.reason}
    if cached.speed is not None:
        found["speed"] = cached.speed
    return found


def _summary(em: EmbeddingModel, verdict: Verdict, ready_pods: int, used: Computing | None) -> dict[str, str]:
    found = {
        "ready": str(verdict.holds),
        "replicas": f"{ready_pods}/{em.replicas}",
        "provider": (used and used.provider) or em.provider,
    }
    return found if verdict.holds else found | {"reason": verdict.reason}
