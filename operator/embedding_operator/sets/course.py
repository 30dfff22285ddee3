"""How a plan is carried out: how many pods each of its sets has now, of which template, who leaves for whom.

Pure; which sets there are is rollout's. Everything follows from what is observed, so that a restarted
operator goes on where the last one was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from embedding_operator import naming
from embedding_operator.api import Body, EmbeddingModel
from embedding_operator.facts import Facts
from embedding_operator.health import census, pods
from embedding_operator.health.census import Census, Unreadable
from embedding_operator.observed import Observed, stamp
from embedding_operator.sets import revisions, rollout, scaling, surge
from embedding_operator.sets.revisions import Choice
from embedding_operator.sets.rollout import Plan
from embedding_operator.sets.surge import Notice, Outlook

DECREASE_WAITS = "ScaleDownWaits"
_SOON = timedelta(seconds=1)


@dataclass(frozen=True)
class Course:
    """sizes: pods of each set, by the fingerprint's short form; a set that is not in it gets no Deployment.

    choices: what they are made from. replaces: pods of before leave first, rather than one being added;
    since: when one was last told to leave for another, None where none is. scarcity: who holds what pods wait
    for, empty where none does. look_again: when any of this may change by itself.
    """

    sizes: Mapping[str, int]
    choices: Mapping[str, Choice]
    replaces: bool = False
    since: datetime | None = None
    notice: Notice | None = None
    scarcity: str = ""
    look_again: datetime | None = None

    def choice(self, facts: Facts | None) -> Choice | None:
        """Returns what the pods of a set are made from."""
        return self.choices.get(naming.short(facts.fingerprint)) if facts else None


def wants_count(seen: Observed, plan: Plan) -> bool:
    """Returns whether there is a pod without a node, so that it matters what the nodes have."""
    waits = any(
        pods.unschedulable(pod)
        for facts in plan.sets
        for pod in seen.pods_with(naming.selector(seen.em.name, facts.fingerprint))
    )
    return waits and (bool(seen.em.gpu and seen.em.gpu.count) or surge.waits(seen, plan))


def course(
    seen: Observed,
    plan: Plan,
    desired: Mapping[str, Body],
    counted: Census | Unreadable | None,
    now: datetime,
) -> Course:
    """Returns how to carry out a plan at this moment.

    desired are the pod templates that the spec asks for, by the fingerprint's short form; counted is None
    where there was no need to count.
    """
    em, wanted = seen.em, plan.wanted
    outlook = surge.outlook(seen, plan, counted, now)
    choices = _choices(seen, plan, desired, outlook)
    own = choices.get(naming.short(wanted.fingerprint)) if wanted else None
    if own is not None and own.held_back:
        outlook = Outlook(notice=surge.held_back_notice(em), look_again=now + _SOON)
    elif own is not None and (own.abandoned or _is_new(seen, plan, own)):
        outlook = Outlook()  # what was found out is about another template
    sizes, hold = _sizes(seen, plan, outlook, now)
    if wanted is not None and own is not None and own.abandoned:
        del sizes[naming.short(wanted.fingerprint)]
    dues = [due for due in (outlook.look_again, hold.until if hold else None) if due is not None]
    return Course(
        sizes,
        choices,
        replaces=outlook.since is not None or em.rollout.surge == "Replace",
        since=outlook.since,
        notice=outlook.notice or (_decrease_waits(hold, rollout.replicas(em)) if hold else None),
        scarcity=_scarcity(em, counted),
        look_again=min(dues, default=None),
    )


def _scarcity(em: EmbeddingModel, counted: Census | Unreadable | None) -> str:
    if counted is None or em.gpu is None or not em.gpu.count:
        return ""  # who has which device of a claim is for its driver to say
    return census.scarcity(counted, em.gpu.resource_name, em.gpu.count)


def _choices(seen: Observed, plan: Plan, desired: Mapping[str, Body], outlook: Outlook) -> dict[str, Choice]:
    found = {
        naming.short(facts.fingerprint): rollout.template(
            seen, plan, facts, desired[naming.short(facts.fingerprint)], patient=outlook.patient
        )
        for facts in plan.sets
    }
    if plan.wanted is not None:
        short, name = (
            naming.short(plan.wanted.fingerprint),
            naming.deployment(seen.em, plan.wanted.fingerprint),
        )
        if surge.held_back(seen, plan, found[short]):
            known = revisions.history(seen, name)
            found[short] = revisions.keep(found[short], seen.deployments[name], known)
    return found


def _is_new(seen: Observed, plan: Plan, choice: Choice) -> bool:
    """Returns whether the serving set's Deployment is about to get another template than it has."""
    if plan.wanted is None or plan.switching:
        return False
    live = seen.deployments.get(naming.deployment(seen.em, plan.wanted.fingerprint))
    return revisions.applied_in(live) != choice.current


def _sizes(
    seen: Observed, plan: Plan, outlook: Outlook, now: datetime
) -> tuple[dict[str, int], scaling.Hold | None]:
    """Returns how many pods each set has, and the decrease that waits the longest."""
    wanted = rollout.replicas(seen.em)
    sizes, holds = {}, []
    for facts in plan.sets:
        short = naming.short(facts.fingerprint)
        gives_way = (
            outlook.other is not None and plan.serving is not None and rollout.same(facts, plan.serving)
        )
        hold = None if gives_way else _hold(seen, facts, wanted, now)
        sizes[short] = outlook.other if gives_way and outlook.other is not None else wanted
        if hold is not None:
            sizes[short] = hold.replicas
            holds.append(hold)
    return sizes, max(holds, key=lambda hold: hold.until, default=None)


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
        f"{hold.replicas} pods stay until {names} is ready, at the latest until {stamp(hold.until)}, and "
        f"become {wanted} then: a smaller number would remove first what still loads. spec.suspend stops all "
        "pods at once",
    )
