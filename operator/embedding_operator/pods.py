"""Why pods are not ready, in one reason and one message: pure, read from pod objects alone.

Messages leave out what changes by itself (restart counts, back-off times), so that a condition changes only
when the cause does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from embedding_operator.api import Body
from embedding_operator.observed import condition, is_true

UNSCHEDULABLE, STARTING, NOT_READY = "Unschedulable", "Starting", "NotReady"
ROOT_CAUSE = 50
"""Rank from which a pod's problem is a root cause, and not just start-up."""
_IMAGE = frozenset({
    "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
    "RegistryUnavailable",
})  # fmt: skip
_START = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_TEXT_LIMIT = 600
"""Characters of a foreign text that a message carries."""


@dataclass(frozen=True)
class Problem:
    """Why something is not ready. rank orders problems: the higher, the closer to the root cause."""

    reason: str
    message: str
    rank: int


def worst(pods: Iterable[Body], container: str) -> Problem | None:
    """Returns the gravest problem of pods that run this container, None where all are ready or there are
    none.

    Where several pods share it, the message says how many.
    """
    known = list(pods)
    problems = [problem for pod in known if (problem := diagnosis(pod, container))]
    if not problems:
        return None
    top = max(problems, key=lambda problem: problem.rank)
    same = [problem for problem in problems if problem.reason == top.reason]
    return Problem(top.reason, f"{len(same)} of {len(known)} pods: {top.message}", top.rank)


def diagnosis(pod: Body, container: str) -> Problem | None:
    """Returns what keeps one pod from being ready, None where it is ready or has ended well."""
    status = pod.get("status") or {}
    if is_true(pod, "Ready") or status.get("phase") == "Succeeded":
        return None
    if unschedulable(pod):
        words = clip((condition(pod, "PodScheduled") or {}).get("message") or "the scheduler gives no reason")
        return Problem(UNSCHEDULABLE, f"cannot be scheduled: {words}", 50)
    state = _container(status, container)
    if state is None:
        reason, message = status.get("reason"), status.get("message")
        if status.get("phase") == "Failed":
            return Problem(str(reason or "Failed"), clip(message or "the pod failed"), 60)
        return Problem(STARTING, "the pod is being set up on its node", 10)
    return _waiting(state) or _ended(state, container) or _running(state)


def unschedulable(pod: Body) -> bool:
    """Returns whether the scheduler has looked for a node for a pod, and found none."""
    return (condition(pod, "PodScheduled") or {}).get("status") == "False"


def clip(text: object) -> str:
    """Returns a foreign text in one line of bounded length: its start, and its end, where errors are."""
    line = " ".join(str(text).split())
    if len(line) <= _TEXT_LIMIT:
        return line
    return f"{line[: _TEXT_LIMIT // 3]} … {line[-_TEXT_LIMIT * 2 // 3 :]}"


def _container(status: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    for item in status.get("containerStatuses") or ():
        if item.get("name") == name:
            found: Mapping[str, Any] = item
            return found
    return None


def _waiting(state: Mapping[str, Any]) -> Problem | None:
    waiting = (state.get("state") or {}).get("waiting") or {}
    reason = waiting.get("reason", "")
    if reason in _IMAGE:
        # ErrImagePull and ImagePullBackOff take turns; one reason keeps the condition still
        stable = "ImagePullBackOff" if reason == "ErrImagePull" else reason
        return Problem(stable, f"image {state.get('image', '')} cannot be pulled: {_pull(reason)}", 70)
    if reason in _START:
        return Problem(reason, clip(waiting.get("message") or "the container cannot be started"), 70)
    return None


def _pull(reason: str) -> str:
    if reason == "ErrImageNeverPull":
        return "it is not on the node and the pull policy is Never"
    if reason == "InvalidImageName":
        return "the name is not a valid image reference"
    return "check the name, the registry and the node's access to it"


def _ended(state: Mapping[str, Any], container: str) -> Problem | None:
    """Reads the last end of a container that is down, or that came back and is not ready yet."""
    now, before = state.get("state") or {}, state.get("lastState") or {}
    ended = now.get("terminated") or before.get("terminated")
    if not ended or (ended.get("exitCode") == 0 and not now.get("terminated")):
        return None
    words = clip(ended.get("message") or "")
    tail = f": {words}" if words else ""
    if ended.get("reason") == "OOMKilled":
        return Problem(
            "OOMKilled", f"container {container} was killed for using more memory than its limit{tail}", 65
        )
    how = f"exit code {ended.get('exitCode')}"
    return Problem("CrashLoopBackOff", f"container {container} ended with {how}{tail}", 60)


def _running(state: Mapping[str, Any]) -> Problem:
    if "running" not in (state.get("state") or {}):
        return Problem(STARTING, "the container is being created", 10)
    if not state.get("started"):
        return Problem(STARTING, "the server is starting", 15)
    return Problem(
        NOT_READY,
        "the server runs and is not ready: it loads the model, or its /health/ready says what is wrong",
        20,
    )
