"""Why pods are not ready, in one reason and one message: pure, from pod objects and what their servers say.

Messages leave out what changes by itself (restart counts, back-off times), so that a condition changes only
when the cause does.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from embedding_operator import facts, readiness
from embedding_operator.api import Body
from embedding_operator.naming import COPY_CONTAINER, FETCH_CONTAINER, METRICS_PORT
from embedding_operator.observed import condition, is_true
from embedding_operator.readiness import Heard, Report, Setback, Silence, Told

UNSCHEDULABLE, STARTING, NOT_READY = "Unschedulable", "Starting", "NotReady"
COPYING, FETCHING, LOADING, DRAINING = "Copying", "Fetching", "Loading", "Draining"
EVICTED, UNMOUNTED = "Evicted", "FailedMount"
ROOT_CAUSE = 50
"""Rank from which a pod's problem is a root cause, and not just start-up."""
IMAGE_REASONS = frozenset({
    "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
    "RegistryUnavailable",
})  # fmt: skip
START_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_NOT_BEGUN = ("ContainerCreating", "PodInitializing")
_CLIENT_ADDRESS = re.compile(r"[\w.:\[\]]+:\d+->")
"""The near end of a connection in a text of Go's net package: another port each time."""
_TEXT_LIMIT = 600
"""Characters of a foreign text that a message carries."""


@dataclass(frozen=True)
class Problem:
    """Why something is not ready. rank orders problems: the higher, the closer to the root cause."""

    reason: str
    message: str
    rank: int


def worst(pods: Iterable[Body], container: str, heard: Heard) -> Problem | None:
    """Returns the gravest problem of pods that run this container, None where all are ready or there are
    none.

    heard is what their servers said. Where several pods share a problem, the message says how many.
    """
    known = list(pods)
    found = [diagnosis(pod, container, heard.get(pod["metadata"].get("uid", ""))) for pod in known]
    problems = [problem for problem in found if problem]
    if not problems:
        return None
    top = max(problems, key=lambda problem: problem.rank)
    same = [problem for problem in problems if problem.reason == top.reason]
    return Problem(top.reason, f"{len(same)} of {len(known)} pods: {top.message}", top.rank)


def diagnosis(pod: Body, container: str, told: Told | None = None) -> Problem | None:
    """Returns what keeps one pod from being ready, None where it is ready or has ended well.

    told is what its server said last, None where nobody asked.
    """
    status = pod.get("status") or {}
    if is_true(pod, "Ready") or status.get("phase") == "Succeeded":
        return None
    if unschedulable(pod):
        words = clip((condition(pod, "PodScheduled") or {}).get("message") or "the scheduler gives no reason")
        return Problem(UNSCHEDULABLE, f"cannot be scheduled: {words}", 50)
    state = _container(status, container)
    if status.get("phase") == "Failed" and (state is None or status.get("reason") == EVICTED):
        return Problem(str(status.get("reason") or "Failed"), clip(status.get("message") or "it failed"), 60)
    if isinstance(told, Setback):
        return Problem(told.reason, clip(_CLIENT_ADDRESS.sub("", told.words)), 62)
    if (problem := _before(pod)) is not None:
        return problem
    if state is None:
        return Problem(STARTING, "the pod is being set up on its node", 10)
    return (
        _waiting(state, pod) or _ended(state, container) or _beside(pod, container) or _running(state, told)
    )


def unschedulable(pod: Body) -> bool:
    """Returns whether the scheduler has looked for a node for a pod, and found none."""
    return (condition(pod, "PodScheduled") or {}).get("status") == "False"


def runs(pod: Body, container: str) -> bool:
    """Returns whether a container of a pod that stays has started, so that its server can be asked."""
    status = pod.get("status") or {}
    state = _container(status, container) or {}
    up = "running" in (state.get("state") or {}) and bool(state.get("started"))
    return up and bool(status.get("podIP")) and "deletionTimestamp" not in pod["metadata"]


def is_set_up(pod: Body) -> bool:
    """Returns whether a pod has a node that is still to create its first container."""
    status = pod.get("status") or {}
    placed = (condition(pod, "PodScheduled") or {}).get("status") == "True"
    states = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    waiting = [(state.get("state") or {}).get("waiting") or {} for state in states]
    pending = status.get("phase") == "Pending" and "deletionTimestamp" not in pod["metadata"]
    return placed and pending and all(found.get("reason") in _NOT_BEGUN for found in waiting)


def ended_run(pod: Body, container: str) -> Mapping[str, Any] | None:
    """Returns how the last run of a container ended, None where it is ready, has not ended or ran out of
    memory.
    """
    state = _container(pod.get("status") or {}, container) or {}
    ended = (state.get("state") or {}).get("terminated") or (state.get("lastState") or {}).get("terminated")
    if not ended or is_true(pod, "Ready") or ended.get("reason") == "OOMKilled":
        return None
    found: Mapping[str, Any] = ended
    return found


def restarts(pod: Body, container: str) -> int:
    """Returns how often a container of a pod was started again."""
    count: int = (_container(pod.get("status") or {}, container) or {}).get("restartCount", 0)
    return count


def clip(text: object) -> str:
    """Returns a foreign text in one line of bounded length: its start, and its end, where errors are."""
    line = " ".join(str(text).split())
    if len(line) <= _TEXT_LIMIT:
        return line
    return f"{line[: _TEXT_LIMIT // 3]} … {line[-_TEXT_LIMIT * 2 // 3 :]}"


def _before(pod: Body) -> Problem | None:
    """Returns what keeps a pod's init containers from being done, None where they are, or are not begun."""
    status = pod.get("status") or {}
    if is_true(pod, "Initialized"):
        return None
    beside = {
        item["name"]
        for item in pod["spec"].get("initContainers") or ()
        if item.get("restartPolicy") == "Always"
    }
    for state in status.get("initContainerStatuses") or ():
        now, name = state.get("state") or {}, state.get("name", "")
        if (now.get("terminated") or {}).get("exitCode") == 0 or (name in beside and state.get("started")):
            continue
        return _waiting(state, pod) or _told(state) or _ended(state, name) or _first(state, name)
    return None


def _told(state: Mapping[str, Any]) -> Problem | None:
    """Returns the failure that a container has told in the words of a prefetch's result."""
    ended = _end(state)
    failure = facts.told_failure((ended or {}).get("message"))
    return Problem(failure.reason, clip(failure.message), 60) if failure else None


def _first(state: Mapping[str, Any], name: str) -> Problem:
    if "running" not in (state.get("state") or {}):
        return Problem(STARTING, "the container is being created", 10)
    if name == FETCH_CONTAINER:
        return Problem(FETCHING, "the pod fetches the model into a volume of its own", 18)
    if name == COPY_CONTAINER:
        return Problem(COPYING, "the files are copied out of their image", 18)
    return Problem(STARTING, f"container {name} runs, which comes before the server", 15)


def _container(status: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    for item in status.get("containerStatuses") or ():
        if item.get("name") == name:
            found: Mapping[str, Any] = item
            return found
    return None


def _waiting(state: Mapping[str, Any], pod: Body) -> Problem | None:
    waiting = (state.get("state") or {}).get("waiting") or {}
    reason = waiting.get("reason", "")
    if reason in IMAGE_REASONS:
        # ErrImagePull and ImagePullBackOff take turns; one reason keeps the condition still
        stable = "ImagePullBackOff" if reason == "ErrImagePull" else reason
        message = str(waiting.get("message") or "")
        image = _mounted(pod, message) or state.get("image", "")
        return Problem(stable, f"image {image} cannot be pulled: {_pull(reason, message)}", 70)
    if reason in START_REASONS:
        return Problem(reason, clip(waiting.get("message") or "the container cannot be started"), 70)
    return None


def _beside(pod: Body, container: str) -> Problem | None:
    """Returns what is wrong with a container that spec.podTemplate has put beside this one."""
    for state in (pod.get("status") or {}).get("containerStatuses") or ():
        name = state.get("name", "")
        if name != container and (problem := _waiting(state, pod) or _ended(state, name)) is not None:
            return problem
    return None


def _mounted(pod: Body, message: str) -> str | None:
    """Returns which image of a pod's volumes a message is about, None where it is about a container's."""
    images = [
        str((volume.get("image") or {}).get("reference") or "") for volume in pod["spec"].get("volumes", ())
    ]
    return next((image for image in images if image and image in message), None)


def _pull(reason: str, message: str) -> str:
    """Returns why an image cannot be had, by the registry's words where the kubelet has passed them on."""
    if reason == "ErrImageNeverPull":
        return "it is not on the node and the pull policy is Never"
    if reason == "InvalidImageName":
        return "the name is not a valid image reference"
    # while the kubelet waits, its message quotes the error: both then give the same words
    words = message.partition("ErrImagePull: ")[2] if reason == "ImagePullBackOff" else message
    advice = "check the name, the registry and the node's access to it"
    return f"{clip(_CLIENT_ADDRESS.sub('', words))}; {advice}" if words else advice


def _ended(state: Mapping[str, Any], container: str) -> Problem | None:
    """Reads the last end of a container that is down, or that came back and is not ready yet."""
    ended = _end(state)
    if ended is None:
        return None
    words = clip(ended.get("message") or "")
    tail = f": {words}" if words else ""
    if ended.get("reason") == "OOMKilled":
        return Problem(
            "OOMKilled", f"container {container} was killed for using more memory than its limit{tail}", 65
        )
    how = f"exit code {ended.get('exitCode')}"
    return Problem("CrashLoopBackOff", f"container {container} ended with {how}{tail}", 60)


def _end(state: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns how a container that is down has ended, or one that came back; None where nothing was wrong."""
    now, before = state.get("state") or {}, state.get("lastState") or {}
    ended: Mapping[str, Any] | None = now.get("terminated") or before.get("terminated")
    if not ended or (ended.get("exitCode") == 0 and not now.get("terminated")):
        return None
    return ended


def _running(state: Mapping[str, Any], told: Told | None) -> Problem:
    if "running" not in (state.get("state") or {}):
        return Problem(STARTING, "the container is being created", 10)
    if not state.get("started"):
        return Problem(STARTING, "the server is starting", 15)
    return _said(told)


def _said(told: Told | None) -> Problem:
    """Returns why a server that runs is not ready, by its own words; where there are none, that."""
    match told:
        case Report(state=readiness.LOADING):
            return Problem(LOADING, f"the server loads the model: {clip(told.message)}", 20)
        case Report(state=readiness.DRAINING):
            return Problem(DRAINING, f"the server ends: {clip(told.message)}", 20)
        case Report(state=readiness.READY):
            return Problem(NOT_READY, "the server says that it is ready, its node has not seen it yet", 20)
        case Report():
            return Problem(told.reason, f"the server cannot serve: {clip(told.message)}", 55)
        case Silence(words):
            where = f"{readiness.PATH} at port {METRICS_PORT}"
            words = (
                f"the server runs and is not ready, and the operator cannot ask it why ({where}: {words}). "
                "Its log may tell; let the operator's pod through to that port"
            )
            return Problem(NOT_READY, words, 20)
        case Setback() | None:
            return Problem(NOT_READY, "the server runs and is not ready", 20)
