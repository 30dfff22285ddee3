"""What Kubernetes tells of an object in Events only: pure readings of them. No advice, no conditions.

Events come late, twice or not at all, and go after an hour: they add words to what the objects show, and
nothing is decided by them alone.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from embedding_operator.api import Body
from embedding_operator.observed import timestamp

_EARLIEST = datetime.min.replace(tzinfo=UTC)
_MOUNT = ("FailedMount", "FailedAttachVolume")
_WENT_ON = ("SuccessfulAttachVolume", "Pulling", "Pulled", "Created", "Started")
"""What a node does with a pod whose volumes are mounted, and an attach that worked."""

_UNBOUND = ("FailedBinding", "ProvisioningFailed")
_PROVISIONING = timedelta(seconds=60)
"""How long a provisioner that works may take; one that is not there is told of in the same words."""

_KILLED = re.compile(r"Container (\S+) failed (startup|liveness) probe")
_NAMED_POD = re.compile(r'pods "[^"]+" is forbidden: ')
"""A pod that could not be created has another name each time."""


@dataclass(frozen=True)
class Incident:
    """One Event. at is when it was seen last."""

    reason: str
    message: str
    at: datetime


def incident(event: Body) -> Incident:
    """Returns what an Event of the API says."""
    series: Any = event.get("series") or {}
    times = (event.get("lastTimestamp"), series.get("lastObservedTime"), event.get("eventTime"))
    at = max((found for time in times if (found := timestamp(time))), default=_EARLIEST)
    return Incident(str(event.get("reason") or ""), str(event.get("message") or ""), at)


def mount_failure(told: Sequence[Incident]) -> str:
    """Returns why a pod's volumes cannot be mounted, empty where they can, or were in the end."""
    failed = _last(told, _MOUNT)
    if failed is None:
        return ""
    went_on = _last(told, _WENT_ON)
    return "" if went_on is not None and went_on.at >= failed.at else failed.message


def killed_by(told: Sequence[Incident], container: str, since: datetime) -> str:
    """Returns which probe had a container killed after it was started at since, empty where none did.

    The probe's own words come with it.
    """
    for killing in sorted(told, key=lambda found: found.at, reverse=True):
        match = _KILLED.search(killing.message)
        if killing.reason == "Killing" and match and match[1] == container and killing.at >= since:
            failed = f"{match[2].capitalize()} probe failed: "
            words = [found for found in told if found.message.startswith(failed)]
            last = max(words, key=lambda found: found.at, default=None)
            return f"its {match[2]} probe failed" + (f": {last.message.removeprefix(failed)}" if last else "")
    return ""


def refused_pod(told: Sequence[Incident]) -> str:
    """Returns why the pod of a Job cannot be created, empty where it can."""
    failed, made = _last(told, ("FailedCreate",)), _last(told, ("SuccessfulCreate",))
    if failed is None or (made is not None and made.at >= failed.at):
        return ""
    return _NAMED_POD.sub("", failed.message.removeprefix("Error creating: "))


def unbound(told: Sequence[Incident], waited: timedelta) -> str:
    """Returns why a claim that has waited for a volume so long gets none, empty where nobody says so."""
    found = _last(told, _UNBOUND if waited < _PROVISIONING else (*_UNBOUND, "ExternalProvisioning"))
    return found.message if found else ""


def _last(told: Iterable[Incident], reasons: Sequence[str]) -> Incident | None:
    return max((found for found in told if found.reason in reasons), key=lambda found: found.at, default=None)
