"""What has happened to a resource and is told once: as an Event, and the latest of it in status.events. Pure.

Conditions say how things are. This follows from how they were: from the status before, and nothing else, so
that it is written when something happened and never because time went by.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from embedding_operator.api import Body
from embedding_operator.health.computing import CPU_FALLBACK
from embedding_operator.observed import condition, stamp
from embedding_operator.sets.course import DECREASE_WAITS

KEPT = 5
"""How many of what happened the status keeps, the latest."""

SWITCHED = "Switched"

_CALM = frozenset({
    "Pending", "Resolving", "Downloading", "Unpacking", "Inspecting", "Caching", "RollingOut", "Starting",
    "Switching", "NotReady", "Loading", "Draining", "WaitingForCache", "ScaledToZero", "Suspended",
    "WaitingForRemoval", "Waiting", "HeldBack", "Fetching", "Copying", DECREASE_WAITS,
})  # fmt: skip
"""Reasons for not being ready that are no cause for a warning."""
_MESSAGE_LIMIT = 1024


class Standing(NamedTuple):
    """What is compared: the Ready condition's status and reason, and the fingerprint behind the Service."""

    ready: str
    reason: str
    fingerprint: str


@dataclass(frozen=True)
class News:
    """Something that happened. matters: it is more than a step on the way to somewhere."""

    reason: str
    message: str
    warning: bool
    matters: bool


def standing(status: Body) -> Standing:
    """Returns how a status says that things are, empty texts before the first."""
    found = condition({"status": status}, "Ready") or {}
    return Standing(found.get("status", ""), found.get("reason", ""), status.get("fingerprint", ""))


def news(before: Standing, status: Body) -> tuple[News, ...]:
    """Returns what has happened since things were as before, in its order; nothing where they still are."""
    now, found = standing(status), []
    if before.fingerprint and now.fingerprint and before.fingerprint != now.fingerprint:
        found.append(News(SWITCHED, _moved(before.fingerprint, status), warning=False, matters=True))
    if (before.ready, before.reason) != (now.ready, now.reason):
        warning = now.reason == CPU_FALLBACK or (now.ready != "True" and now.reason not in _CALM)
        message = (condition({"status": status}, "Ready") or {}).get("message", "")
        found.append(News(now.reason, message, warning, matters=warning or now.ready == "True"))
    return tuple(found)


def kept(before: Body, status: Body, now: datetime) -> list[dict[str, Any]]:
    """Returns status.events for a status that follows on another one: the latest of what mattered, last.

    What happens again moves to the end and is counted, so that one thing that comes and goes does not push
    out all others.
    """
    found: list[Mapping[str, Any]] = list(before.get("events") or ())
    for entry in news(standing(before), status):
        if not entry.matters:
            continue
        same = next((item for item in found if item["reason"] == entry.reason), None)
        found = [item for item in found if item is not same]
        found.append(
            {
                "time": stamp(now),
                "type": "Warning" if entry.warning else "Normal",
                "reason": entry.reason,
                "message": entry.message[:_MESSAGE_LIMIT],
                "count": 1 + (same or {}).get("count", 0),
            }
        )
    return [dict(item) for item in found[-KEPT:]]


def _moved(before: str, status: Body) -> str:
    what = "vectors" if (status.get("model") or {}).get("task") == "embed" else "scores"
    return (
        f"the Service answers from fingerprint {status['fingerprint'][:8]} now, no longer from {before[:8]}: "
        f"{what} of the two cannot be compared"
    )
