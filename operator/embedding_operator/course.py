"""How a plan is carried out: how many pods each of its sets has now. Pure; which sets there are is rollout's.

Everything follows from what is observed, so that a restarted operator goes on where the last one was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from embedding_operator import census, naming, pods, rollout, scaling
from embedding_operator.api import Body
from embedding_operator.census import Census, Unreadable
from embedding_operator.facts import Facts
from embedding_operator.observed import Observed
from embedding_operator.rollout import Plan

DECREASE_WAITS = "ScaleDownWaits"


@dataclass(frozen=True)
class Notice:
    """What is to be said of the way there, as reason and message of Progressing."""

    reason: str
    message: str


@dataclass(frozen=True)
class Course:
    """sizes: pods of each set, by the fingerprint's short form. look_again: when it may change by itself.

    scarcity: who holds what pods wait for, empty where none does.
    """

    sizes: Mapping[str, int]
    notice: Notice | None = None
    look_again: datetime | None = None
    scarcity: str = ""


def wants_count(seen: Observed, plan: Plan) -> bool:
    """Returns whether there is a pod without a node, so that it matters what the nodes have."""
    return seen.em.gpu is not None and any(pods.unschedulable(pod) for pod in _pods(seen, plan))


def course(seen: Observed, plan: Plan, counted: Census | Unreadable | None, now: datetime) -> Course:
    """Returns how to carry out a plan at this moment. counted: None where there was no need to count."""
    found = _sized(seen, plan, now)
    gpu = seen.em.gpu
    if counted is None or gpu is None:
        return found
    return replace(found, scarcity=census.scarcity(counted, gpu.resource_name, gpu.count))


def _pods(seen: Observed, plan: Plan) -> list[Body]:
    """Returns the pods of all sets of a plan that are to stay."""
    return [
        pod for facts in plan.sets for pod in seen.pods_with(naming.selector(seen.em.name, facts.fingerprint))
    ]


def _sized(seen: Observed, plan: Plan, now: datetime) -> Course:
    wanted = rollout.replicas(seen.em)
    holds = {naming.short(facts.fingerprint): _hold(seen, facts, wanted, now) for facts in plan.sets}
    sizes = {short: hold.replicas if hold else wanted for short, hold in holds.items()}
    waits = [hold for hold in holds.values() if hold is not None]
    if not waits:
        return Course(sizes)
    longest = max(waits, key=lambda hold: hold.until)
    return Course(sizes, _decrease_waits(longest, wanted), longest.until)


def _hold(seen: Observed, facts: Facts, wanted: int, now: datetime) -> scaling.Hold | None:
    if seen.em.suspended:
        return None  # that means at once
    return scaling.hold(
        seen.deployments.get(naming.deployment(seen.em, facts.fingerprint)),
        seen.pods_with(naming.selector(seen.em.name, facts.fingerprint)),
        wanted,
        timedelta(seconds=seen.em.rollout.progress_deadline),
        now,
    )


def _decrease_waits(hold: scaling.Hold, wanted: int) -> Notice:
    names = ", ".join(hold.pods[:3]) + (f" and {len(hold.pods) - 3} more" if len(hold.pods) > 3 else "")
    return Notice(
        DECREASE_WAITS,
        f"{hold.replicas} pods stay until {names} is ready, at the latest until "
        f"{hold.until:%Y-%m-%dT%H:%M:%SZ}, and become {wanted} then: a smaller number would remove first "
        "what still loads. spec.suspend stops all pods at once",
    )
