"""Whether pods of before leave to make room for new ones: pure, from what is observed and the time.

Either the wanted set serves already, and its Deployment adds a pod before one leaves (surge) or takes one
away first (replace); or another set serves, which stays whole or gives way pod by pod. That pods have begun
to leave is noted on the wanted set's Deployment, so that a restarted operator goes on where the last one was.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from embedding_operator import naming
from embedding_operator.api import Body, EmbeddingModel
from embedding_operator.facts import Facts
from embedding_operator.health import census, pods
from embedding_operator.health.census import Census, Unreadable
from embedding_operator.observed import Observed, annotation, condition, is_true, stamp, timestamp
from embedding_operator.sets import revisions, rollout, scaling
from embedding_operator.sets.revisions import Choice
from embedding_operator.sets.rollout import Plan

WILL_INTERRUPT, WAITING = "WillInterrupt", "WaitingForRoom"

_ANNOUNCED = timedelta(seconds=1)
"""How soon to look again at what has only been announced."""

_SCARCE = ("Insufficient ", "Too many pods")
_TAKEN = ("anti-affinity", "topology spread", "free ports", "cannot allocate all claims")
"""Words of the scheduler for what another pod holds, and gives back when it leaves."""


@dataclass(frozen=True)
class Notice:
    """What is to be said as reason and message of Progressing. stalled: somebody has to change something."""

    reason: str
    message: str
    stalled: bool = False


@dataclass(frozen=True)
class Outlook:
    """How the wanted set gets room. since: when a pod of before was last told to leave for it.

    other: how many pods the set keeps that still serves, None: all. patient: pods that are late are not
    judged yet. look_again: when any of this may change by itself.
    """

    since: datetime | None = None
    other: int | None = None
    notice: Notice | None = None
    patient: bool = False
    look_again: datetime | None = None


@dataclass(frozen=True)
class _Scene:
    """The wanted set, whose Deployment is there, and the pods of before that could leave."""

    em: EmbeddingModel
    live: Body
    pods: tuple[Body, ...]
    before: tuple[Body, ...]
    counted: Census | Unreadable | None
    now: datetime

    @property
    def since(self) -> datetime | None:
        return room_since(self.live)

    @property
    def waiting(self) -> list[Body]:
        return [pod for pod in self.pods if pods.unschedulable(pod)]

    @property
    def deadline(self) -> timedelta:
        return timedelta(seconds=self.em.rollout.progress_deadline)


def room_since(deployment: Body | None) -> datetime | None:
    """Returns when a pod of before was last told to leave for this set, None where none is."""
    return timestamp(annotation(deployment, naming.ROOM_ANNOTATION)) if deployment else None


def waits(seen: Observed, plan: Plan) -> bool:
    """Returns whether a pod of the wanted set has no node, so that others may have to leave."""
    scene = _scene(seen, plan, None, datetime.min) if _matters(seen, plan) else None
    return scene is not None and bool(scene.waiting)


def outlook(seen: Observed, plan: Plan, counted: Census | Unreadable | None, now: datetime) -> Outlook:
    """Returns who has to leave now, if anybody, for the template that the wanted set has."""
    scene = _scene(seen, plan, counted, now) if _matters(seen, plan) else None
    if scene is None or plan.wanted is None:
        return Outlook()
    if plan.switching and plan.serving is not None:
        found = _beside(seen, scene, plan.serving)
    else:
        found = _in_place(seen, scene, plan.wanted)
    return _with_patience(scene, found)


def held_back(seen: Observed, plan: Plan, choice: Choice) -> bool:
    """Returns whether a template has to wait, since rollout.surge Replace would stop the only ready pod."""
    scene = _scene(seen, plan, None, datetime.min)
    if (
        scene is None
        or plan.switching
        or seen.em.rollout.surge != "Replace"
        or rollout.replicas(seen.em) != 1
    ):
        return False
    if choice.current == revisions.applied_in(scene.live) or not any(
        is_true(pod, "Ready") for pod in scene.pods
    ):
        return False
    return not _may_interrupt(seen.em)


def held_back_notice(em: EmbeddingModel) -> Notice:
    """Returns what to say of a template that is held back."""
    return _interruption(em, "spec.rollout.surge is Replace, and there is one pod")


def _matters(seen: Observed, plan: Plan) -> bool:
    em = seen.em
    return plan.wanted is not None and rollout.replicas(em) > 0 and em.rollout.surge != "Surge"


def _scene(seen: Observed, plan: Plan, counted: Census | Unreadable | None, now: datetime) -> _Scene | None:
    em, wanted = seen.em, plan.wanted
    live = seen.deployments.get(naming.deployment(em, wanted.fingerprint)) if wanted else None
    if wanted is None or live is None:
        return None
    its = seen.pods_with(naming.selector(em.name, wanted.fingerprint))
    other = plan.serving if plan.switching else None
    before = seen.pods_with(naming.selector(em.name, other.fingerprint)) if other else its
    return _Scene(em, live, its, tuple(pod for pod in before if _placed(pod)), counted, now)


def _with_patience(scene: _Scene, found: Outlook) -> Outlook:
    """Returns the outlook with the time that pods may still take which got their nodes late."""
    ends = [until for pod in scene.pods if (until := scaling.loading_until(pod, scene.deadline))]
    end = max(ends, default=scene.now)
    if end <= scene.now:
        return found
    return replace(found, patient=True, look_again=min(end, found.look_again or end))


def _in_place(seen: Observed, scene: _Scene, wanted: Facts) -> Outlook:
    progress = rollout.progress(seen, wanted)
    count = rollout.replicas(scene.em)
    if scene.since is not None and not progress.complete(count):
        return _under_way(scene, scene.since)
    exchanges = progress.total > progress.updated
    if scene.em.rollout.surge == "Replace" or not scene.waiting or not exchanges:
        return Outlook()
    answers = progress.ready > 0 or any(is_true(pod, "Ready") for pod in scene.pods)
    due = _longest_waiting(scene) + _wait(scene.em)
    return _decide(
        scene, due, interrupts=count == 1 and answers, stay=Outlook(), go=_under_way(scene, scene.now)
    )


def _beside(seen: Observed, scene: _Scene, serving: Facts) -> Outlook:
    """The set that serves gives way by one pod when all room that it has given so far is put to use."""
    old = seen.deployments.get(naming.deployment(scene.em, serving.fingerprint))
    if old is None:
        return Outlook(since=scene.since)
    count, stay, since = rollout.replicas(scene.em), Outlook(), scene.since
    keeps = count
    if since is not None:
        keeps = min(count, old["spec"].get("replicas", count))
        stay = replace(_under_way(scene, since), other=keeps)
    placed = [pod for pod in scene.pods if _placed(pod)]
    settled = all(is_true(pod, "Ready") for pod in placed) and not _leaving(seen, serving, keeps)
    if not scene.waiting or not settled or not keeps:
        return stay
    due = _longest_waiting(scene) + _wait(scene.em)
    if since is not None and len(placed) < count - keeps:
        due = since + _wait(scene.em) + timedelta(seconds=scene.em.server.shutdown_timeout + 10)
    answers = rollout.progress(seen, serving).ready > 0
    go = replace(_under_way(scene, scene.now), other=keeps - 1)
    return _decide(scene, due, interrupts=keeps == 1 and answers, stay=stay, go=go)


def _under_way(scene: _Scene, since: datetime) -> Outlook:
    """Returns the outlook while pods of before leave: who got room then has the deadline from then on."""
    end = since + scene.deadline
    return Outlook(since, patient=scene.now < end, look_again=end if scene.now < end else None)


def _decide(scene: _Scene, due: datetime, *, interrupts: bool, stay: Outlook, go: Outlook) -> Outlook:
    em, now, words = scene.em, scene.now, _words(scene)
    if not _helps(scene):
        message = f"no node has room for a new pod, nor would a pod of before make any by leaving: {words}"
        return replace(stay, notice=Notice(WAITING, message))
    if _lossless(scene):
        return go
    if interrupts and now >= due and _may_interrupt(em):
        return go
    if interrupts:
        notice = _interruption(em, f"no node has room for one pod more: {words}", due if now < due else None)
        look_again = due if now < due else None if notice.stalled else now + _ANNOUNCED
        return replace(stay, notice=notice, patient=stay.patient or now >= due, look_again=look_again)
    if now < due:
        message = (
            f"no node has room for one pod more. If that is still so at {stamp(due)}, pods of before leave "
            f"one by one to make room: {words}"
        )
        return replace(stay, notice=Notice(WAITING, message), look_again=due)
    return go


def _interruption(em: EmbeddingModel, cause: str, due: datetime | None = None) -> Notice:
    """Returns the announcement of an outage; until due room is waited for, None: that time is over."""
    what = "the only pod that answers has to leave before its successor can start"
    if em.rollout.interruption == "Wait":
        until = f"After {stamp(due)} the change waits for somebody to" if due else "The change waits:"
        return Notice(
            WILL_INTERRUPT,
            f"{what}. {until} make room, or write spec.rollout.interruption: Allow. Meanwhile that pod goes "
            f"on serving. {cause}",
            stalled=due is None,
        )
    when = f"from {stamp(due)} on, if there is no room by then" if due else "now"
    return Notice(
        WILL_INTERRUPT,
        f"{what}: {when} nothing answers until the new pod is ready, which spec.rollout.interruption allows. "
        f"{cause}",
    )


def _may_interrupt(em: EmbeddingModel) -> bool:
    """Returns whether the only ready pod may be stopped: it is allowed, and was announced for this spec."""
    said = condition(em.body, "Progressing") or {}
    announced = (said.get("reason"), said.get("observedGeneration")) == (WILL_INTERRUPT, em.generation)
    return em.rollout.interruption == "Allow" and announced


def _wait(em: EmbeddingModel) -> timedelta:
    if em.rollout.surge == "Replace":
        return timedelta()
    return timedelta(seconds=min(em.rollout.surge_wait, em.rollout.progress_deadline / 2))


def _longest_waiting(scene: _Scene) -> datetime:
    known = [
        timestamp((condition(pod, "PodScheduled") or {}).get("lastTransitionTime")) for pod in scene.waiting
    ]
    return min((at for at in known if at is not None), default=scene.now)


def _words(scene: _Scene) -> str:
    problem = pods.diagnosis(scene.waiting[0], naming.CONTAINER)
    return problem.message if problem else ""


def _placed(pod: Body) -> bool:
    return (condition(pod, "PodScheduled") or {}).get("status") == "True"


def _lossless(scene: _Scene) -> bool:
    """Returns whether none of the pods of before is ready, or is about to be."""
    return bool(scene.before) and not any(
        is_true(pod, "Ready") or (scaling.loading_until(pod, scene.deadline) or scene.now) > scene.now
        for pod in scene.before
    )


def _leaving(seen: Observed, facts: Facts, keeps: int) -> bool:
    """Returns whether pods of a set still hold what they were told to give back."""
    selector = naming.selector(seen.em.name, facts.fingerprint)
    going = any(
        "deletionTimestamp" in pod["metadata"]
        for pod in seen.pods
        if selector.items() <= (pod["metadata"].get("labels") or {}).items()
    )
    return going or rollout.progress(seen, facts).total > keeps


def _helps(scene: _Scene) -> bool:
    """Returns whether a pod that leaves makes room for one that waits, as far as can be told.

    A node that has room for it already is refused for another reason, which no leaving pod mends.
    """
    words = str((condition(scene.waiting[0], "PodScheduled") or {}).get("message") or "")
    if any(taken in words for taken in _TAKEN):
        return True
    if not any(scarce in words for scarce in _SCARCE):
        return False
    if not isinstance(scene.counted, Census):
        return True
    wants = census.requests(scene.live["spec"]["template"]["spec"])
    names = {(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in scene.before}
    free = scene.counted.free()
    leaving = [
        tenant
        for tenant in scene.counted.tenants
        if (tenant.namespace, tenant.name) in names and tenant.node in free
    ]
    return not leaving or any(
        not census.fits(wants, free[tenant.node]) and census.fits(wants, free[tenant.node], tenant.requests)
        for tenant in leaving
    )
