"""How far a prefetch Job is: pure, from the Job, its pods and the last progress line. Decides no retry
itself.

The Job and its pods stay until their source is no longer wanted, as the record of what was found. The pod's
message is copied to an annotation of the Job, since nodes and garbage collection take pods away.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from embedding_operator import facts
from embedding_operator.api import Body
from embedding_operator.cache import copying
from embedding_operator.facts import Facts, Failure, Request, Resolution
from embedding_operator.health import pods
from embedding_operator.naming import (
    ATTEMPT_ANNOTATION,
    MODELS_VOLUME,
    OPTIONS_ANNOTATION,
    PREFETCH_CONTAINER,
    PREVIOUS_ANNOTATION,
    RESULT_ANNOTATION,
)
from embedding_operator.observed import annotation, condition, is_true, timestamp
from embedding_operator.source import origin

_FULL = f'EmptyDir volume "{MODELS_VOLUME}" exceeds'
"""What the kubelet says of a pod that has put more into the volume than the volume's limit."""

STARTING, UNMOUNTED, UNBOUND = "Pending", pods.UNMOUNTED, "UnboundClaim"


@dataclass(frozen=True)
class Progress:
    """The last progress line of a running Job. total is None where the hub has not said.

    speed is in bytes a second, None where nothing is being downloaded.
    """

    phase: str
    bytes: int
    total: int | None
    message: str
    speed: int | None = None


@dataclass(frozen=True)
class Missing:
    """There is no Job."""


@dataclass(frozen=True)
class Pending:
    """The Job is there and its container does not run yet."""

    reason: str
    message: str


@dataclass(frozen=True)
class Running:
    """The container runs in this pod."""

    pod: str


@dataclass(frozen=True)
class Retrying:
    """An attempt failed; Kubernetes starts the next one by itself."""

    failure: Failure


@dataclass(frozen=True)
class Done:
    """The claim is filled."""

    facts: Facts


@dataclass(frozen=True)
class Resolved:
    """The Job that only asks has its answer."""

    resolution: Resolution


@dataclass(frozen=True)
class Failed:
    """The Job of this name gave up at this time, as attempt number attempt (from 1)."""

    failure: Failure
    at: datetime
    attempt: int
    job: str


@dataclass(frozen=True)
class Lost:
    """The Job completed and nobody knows with what result: it has to run again."""


State = Missing | Pending | Running | Retrying | Done | Resolved | Failed | Lost


def state(job: Body | None, pods_of_job: Sequence[Body]) -> State:
    """Returns where a Job stands. pods_of_job come oldest first."""
    if job is None:
        return Missing()
    result = facts.from_result(raw_result(job, pods_of_job), request(job))
    failed_at = _failed_at(job)
    if isinstance(result, Facts):
        return Done(result)
    if isinstance(result, Resolution):
        return Resolved(result)
    if failed_at is not None:
        failure = result or _without_words(job, pods_of_job)
        return Failed(failure, failed_at, attempt(job), job["metadata"]["name"])
    if is_true(job, "Complete"):
        return Lost()
    # a pod counts as running for a moment after its container has ended
    live = [
        pod
        for pod in pods_of_job
        if _phase(pod) in ("Pending", "Running", "Unknown") and _terminated(pod) is None
    ]
    if live:
        return _live(live[-1])
    if result is not None:
        return Retrying(result)
    if pods_of_job and (_phase(pods_of_job[-1]) == "Failed" or _terminated(pods_of_job[-1])):
        return Retrying(_without_words(job, pods_of_job))
    return Pending(STARTING, "the prefetch Job waits for its pod")


def request(job: Body) -> Request:
    """Returns what a Job was asked for, by its own template: the spec may have changed since."""
    template = job["spec"]["template"]["spec"]
    env = {item["name"]: item.get("value") for item in template["containers"][0].get("env") or ()}
    volumes = template.get("volumes") or ()
    claims = [volume["persistentVolumeClaim"] for volume in volumes if "persistentVolumeClaim" in volume]
    images = [volume["image"]["reference"] for volume in volumes if "image" in volume]
    return Request(
        model=str(env.get("MODEL_ID") or ""),
        file=env.get("MODEL_FILE"),
        claim=claims[0]["claimName"] if claims else "",
        job=job["metadata"]["name"],
        options=annotation(job, OPTIONS_ANNOTATION) or "",
        folder=env.get("MODEL_PATH"),
        foreign=bool(claims and claims[0].get("readOnly")),
        image=images[0] if images else None,
    )


def hub(job: Body) -> str:
    """Returns whom a Job asks: a hub's address, empty for the public one, or the host of an archive."""
    container = job["spec"]["template"]["spec"]["containers"][0]
    env = {item["name"]: item.get("value") for item in container.get("env") or ()}
    archive = env.get("MODEL_URL")
    return origin(archive) if archive else env.get("HF_ENDPOINT") or ""


def revision(job: Body) -> str | None:
    """Returns the branch, tag or commit that a Job was told to fetch, None where it was told none."""
    container = job["spec"]["template"]["spec"]["containers"][0]
    env = {item["name"]: item.get("value") for item in container.get("env") or ()}
    return env.get("MODEL_REVISION")


def raw_result(job: Body, pods_of_job: Sequence[Body]) -> str | None:
    """Returns the last termination message of the Job's pods, or what was kept of it on the Job."""
    for pod in reversed(pods_of_job):
        message = (_terminated(pod) or {}).get("message")
        if message:
            return str(message)
    return annotation(job, RESULT_ANNOTATION)


def finished(job: Body) -> bool:
    """Returns whether the Job has ended, well or not."""
    return is_true(job, "Complete") or is_true(job, "Failed")


def attempt(job: Body) -> int:
    """Returns how often this source has been tried, this Job included, from 1."""
    text = annotation(job, ATTEMPT_ANNOTATION) or ""
    return int(text) if text.isdecimal() else 1


def previous(job: Body | None) -> Failure | None:
    """Returns what the attempt before failed of, where it waits for somebody to mend it; None else."""
    return facts.failure_from(annotation(job, PREVIOUS_ANNOTATION)) if job is not None else None


def progress(log: str) -> Progress | None:
    """Returns the last progress line of a log's end, None where it has none."""
    for line in reversed(log.splitlines()):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("event") == "progress":
            total = record.get("total")
            return Progress(
                phase=str(record.get("phase", "")),
                bytes=_whole(record.get("bytes")),
                total=_whole(total) if total is not None else None,
                message=pods.clip(record.get("message") or ""),
                speed=_whole(record["speed"]) if "speed" in record else None,
            )
    return None


def pause(log: str) -> datetime | None:
    """Returns until when the hub has asked not to be asked again, by a log's end; None where it has not."""
    for line in reversed(log.splitlines()):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("event") == "pause":
            until = timestamp(record.get("until"))
            return until if until is not None and until.tzinfo else None
    return None


def _live(pod: Body) -> State:
    problem = pods.diagnosis(pod, PREFETCH_CONTAINER)
    if problem is None or problem.reason in (pods.NOT_READY,) or _runs(pod):
        return Running(pod["metadata"]["name"])
    reason = STARTING if problem.reason == pods.STARTING else problem.reason
    return Pending(reason, f"prefetch pod {pod['metadata']['name']}: {problem.message}")


def _failed_at(job: Body) -> datetime | None:
    found = condition(job, "Failed")
    if found is None or found.get("status") != "True":
        return None
    return timestamp(found.get("lastTransitionTime")) or timestamp(job["metadata"].get("creationTimestamp"))


def _without_words(job: Body, pods_of_job: Sequence[Body]) -> Failure:
    """Returns the failure of a Job whose pod left no result: killed, evicted, or never able to start."""
    if pods_of_job and (failure := copying.failure(pods_of_job[-1])) is not None:
        return failure
    problem = pods.diagnosis(pods_of_job[-1], PREFETCH_CONTAINER) if pods_of_job else None
    if problem is not None and problem.reason == pods.EVICTED and _FULL in problem.message:
        return Failure("DiskFull", problem.message, permanent=False)
    if problem is not None:
        reason = "PrefetchFailed" if problem.reason == "CrashLoopBackOff" else problem.reason
        return Failure(reason, problem.message, permanent=False)
    found = condition(job, "Failed") or {}
    return Failure("PrefetchFailed", pods.clip(found.get("message") or "the Job failed"), permanent=False)


def _terminated(pod: Body) -> Mapping[str, Any] | None:
    for item in (pod.get("status") or {}).get("containerStatuses") or ():
        if item.get("name") == PREFETCH_CONTAINER:
            found: Mapping[str, Any] | None = (item.get("state") or {}).get("terminated")
            return found
    return None


def _runs(pod: Body) -> bool:
    for item in (pod.get("status") or {}).get("containerStatuses") or ():
        if item.get("name") == PREFETCH_CONTAINER:
            return "running" in (item.get("state") or {})
    return False


def _phase(pod: Body) -> str:
    return str((pod.get("status") or {}).get("phase", "Pending"))


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
