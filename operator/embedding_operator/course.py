"""How a plan is carried out: how many pods each of its sets has now. Pure; which sets there are is rollout's.

Everything follows from what is observed, so that a restarted operator goes on where the last one was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from embedding_operator import naming, rollout, scaling
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
    """sizes: pods of each set, by the fingerprint's short form. look_again: when it may change by itself."""

    sizes: Mapping[str, int]
    notice: Notice | None = None
    look_again: datetime | None = None


def course(seen: Observed, plan: Plan, now: datetime) -> Course:
    """Returns how to carry out a plan at this moment."""
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
