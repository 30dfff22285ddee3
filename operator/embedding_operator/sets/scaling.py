"""How many pods a set has while it is scaled down: a decrease waits for pods that still load. Pure.

A ReplicaSet that shrinks removes pods that are not ready first: those that somebody has just asked for, and
that hold the GPU they have waited for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from embedding_operator import fields, naming
from embedding_operator.api import Body
from embedding_operator.health import pods
from embedding_operator.observed import condition, is_true, timestamp


@dataclass(frozen=True)
class Hold:
    """A decrease that waits: replicas stay, for the sake of these pods, until that time at the latest."""

    replicas: int
    pods: tuple[str, ...]
    until: datetime


def hold(
    deployment: Body | None, its_pods: Sequence[Body], wanted: int, deadline: timedelta, now: datetime
) -> Hold | None:
    """Returns why a set keeps more pods than wanted for now, None where nothing keeps it from shrinking.

    deadline is how long a pod may load. A number that somebody else wrote to the Deployment is not kept.
    """
    if deployment is None or not fields.owns(deployment, naming.FIELD_MANAGER, "spec", "replicas"):
        return None
    current = deployment["spec"].get("replicas", 1)
    found = {
        pod["metadata"]["name"]: until
        for pod in its_pods
        if (until := loading_until(pod, deadline)) is not None and until > now
    }
    if wanted >= current or not found:
        return None
    return Hold(current, tuple(sorted(found)), max(found.values()))


def loading_until(pod: Body, deadline: timedelta) -> datetime | None:
    """Returns when a pod that has a node has to be ready, None where it has none, is ready, or cannot be."""
    placed = condition(pod, "PodScheduled")
    if placed is None or placed.get("status") != "True" or is_true(pod, "Ready"):
        return None
    problem = pods.diagnosis(pod, naming.CONTAINER)
    if problem is None or problem.rank >= pods.ROOT_CAUSE:
        return None
    since = timestamp(placed.get("lastTransitionTime")) or datetime.min.replace(tzinfo=UTC)
    return since + deadline
