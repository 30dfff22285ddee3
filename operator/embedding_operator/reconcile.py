"""One reconcile: observe, decide, apply, prune, report. Idempotent and level-based; the decisions are
elsewhere.

What is kept between two reconciles only saves requests (the last progress read) or repeated Events; losing it
changes nothing.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from embedding_operator import api, events, fields, naming, observed, status
from embedding_operator.api import Body, EmbeddingModel, Key
from embedding_operator.cache import caching, following, prefetch, sizing, volumes
from embedding_operator.cache.caching import Cached
from embedding_operator.cache.prefetch import Done
from embedding_operator.cache.sizing import Size
from embedding_operator.errors import (
    ApiError,
    ForbiddenError,
    LeftoverError,
    NameConflictError,
    NotFoundError,
    OwnerGoneError,
    PodTemplateRefusedError,
    RejectedError,
)
from embedding_operator.events import News, Standing
from embedding_operator.fetching.filling import Filler, standing
from embedding_operator.fetching.line import Line
from embedding_operator.fetching.prefetcher import Step, filled
from embedding_operator.health import pods
from embedding_operator.lookups import survey
from embedding_operator.lookups.inquiry import Inquiry
from embedding_operator.lookups.setbacks import Setbacks
from embedding_operator.lookups.survey import Survey
from embedding_operator.observed import (
    BUDGET,
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    REVISION,
    SERVICE,
    Observed,
    stamp,
)
from embedding_operator.ports import Cache, Children, Cluster, Servers
from embedding_operator.resources import options
from embedding_operator.resources.deployment import deployment, strategy
from embedding_operator.resources.disruption import budget
from embedding_operator.resources.meta import Runtime
from embedding_operator.resources.revision import made_from, revision
from embedding_operator.resources.service import service
from embedding_operator.sets import course, privileges, revisions, rollout
from embedding_operator.sets.course import Course
from embedding_operator.sets.revisions import Version
from embedding_operator.sets.rollout import Plan
from embedding_operator.status import Verdict
from embedding_operator.writer import Writer

log = structlog.get_logger("embedding_operator.reconcile")

BLOCKED_SECONDS = 20.0
"""How soon to look again at what somebody else has to change and no watch announces."""


@dataclass(frozen=True)
class Outcome:
    """How a reconcile ended. look_again: seconds until the next one, None: at the next event."""

    look_again: float | None = None
    gone: bool = False


class Reconciler:
    """Reconciles one resource at a time, whichever the queue names; safe to run for several at once.

    allowed is what spec.podTemplate may say beyond what is harmless (privileges.PRIVILEGES).
    """

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        servers: Servers,
        runtime: Runtime,
        clock: Callable[[], datetime],
        jitter: Callable[[float], float] = lambda seconds: seconds,
        *,
        prefetches: int = 4,
        allowed: Collection[str] = (),
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._runtime = runtime
        self._clock = clock
        self._jitter = jitter
        self._allowed = frozenset(allowed)
        self._filler = Filler(cluster, runtime, Line(cache.jobs, prefetches), jitter)
        self._survey = Survey(cluster)
        self._inquiry = Inquiry(servers)
        self._setbacks = Setbacks(cluster)
        self._announced: dict[Key, Standing] = {}

    async def __call__(self, key: Key, *, fresh: bool = False) -> Outcome:
        """Brings one resource closer to its spec. fresh: read the API server instead of the watches' cache.

        Raises errors.ApiError where the API server did not answer or somebody else wrote first: the queue
        tries again after a while.
        """
        seen = await self._observe(key, fresh)
        if seen is None:
            self._forget(key)
            return Outcome(gone=True)
        if seen.em.deleting:
            return Outcome()  # its children go with it, by their owner references
        try:
            return await self._reconcile(seen)
        except OwnerGoneError:
            self._cache.bury({seen.em.uid})
            self._forget(key)
            return Outcome(gone=True)

    async def _observe(self, key: Key, fresh: bool) -> Observed | None:
        if not fresh:
            body = self._cache.resource(key)
            return None if body is None else self._seen(body, self._cache.children(key))
        cached = self._cache.children(key)
        before = {child["metadata"]["uid"] for bodies in cached.values() for child in bodies}
        resource = self._cache.resource(key)
        if resource is not None:
            before.add(resource["metadata"]["uid"])
        body = await self._cluster.get(api.KIND, key.namespace, key.name)
        children = await self._cluster.children(key)
        alive = {child["metadata"]["uid"] for bodies in children.values() for child in bodies}
        if body is not None:
            alive.add(body["metadata"]["uid"])
        self._cache.bury(before - alive)
        return None if body is None else self._seen(body, children)

    def _seen(self, body: Body, children: Children) -> Observed:
        """Returns the view of a resource whose revision is followed to what it means now."""
        parsed = api.parse(body, image_volumes=self._runtime.image_volumes)
        seen = observed.observed(parsed, children)
        em = following.followed(seen)
        followed = seen if em is seen.em else observed.observed(em, children)
        return revisions.permitted(followed, self._allowed)

    async def _reconcile(self, seen: Observed) -> Outcome:
        now = self._clock()
        seen, ask_again = await self._inquiry.ask(await self._with_its_volume(seen), now)
        seen, read_again = await self._setbacks.look(seen, now)
        size = sizing.size(seen)
        seen = sizing.with_size(seen, size)
        em = seen.em
        writer = Writer(self._cluster, em)
        job = seen.jobs.get(naming.job(em))
        state = prefetch.state(job, seen.pods_of(job) if job else ())
        plan = rollout.plan(seen, state, now)
        counted = await self._survey.census(now) if course.wants_count(seen, plan) else None
        way = course.course(seen, plan, self._templates(em, plan), counted, now)
        step = Step(standing(seen, size, state))
        if rollout.paused(em):
            cached = self._cached(seen, size, step, plan, "")
            await self._report(seen, plan, way, cached, status.accepted(em), now)
            return Outcome(min(_until(now, ask_again, read_again), default=None))
        accepted, note = status.accepted(em), ""
        look_again: list[float] = []
        try:
            privileges.check(em.pod_template, self._allowed)
            step, note = await self._filler.fill(seen, size, plan, state, writer, now)
            seen = await self._apply_sets(seen, plan, way, writer)
            await self._prune(seen, plan, way, writer)
        except LeftoverError as error:
            accepted = Verdict(False, "WaitingForRemoval", str(error))
            look_again.append(2.0)
        except PodTemplateRefusedError as error:
            accepted = Verdict(False, "PodTemplateRefused", str(error))
        except NameConflictError as error:
            accepted = Verdict(False, "NameConflict", str(error))
            look_again.append(self._jitter(BLOCKED_SECONDS))
        except (ForbiddenError, RejectedError) as error:
            accepted = Verdict(False, "Rejected", f"the API server refuses: {pods.clip(error.message)}")
            look_again.append(self._jitter(BLOCKED_SECONDS))
        cached = self._cached(seen, size, step, plan, note)
        await self._report(seen, plan, way, cached, accepted, now)
        if step.look_again is not None:
            look_again.append(step.look_again)
        if counted is not None:
            look_again.append(self._jitter(survey.HELD.total_seconds()))
        look_again += _until(now, plan.look_again, way.look_again, ask_again, read_again)
        return Outcome(min(look_again, default=None))

    async def _with_its_volume(self, seen: Observed) -> Observed:
        """A claim of somebody else is not watched, and its own access mode counts."""
        if seen.em.existing_claim is None:
            return seen
        claim = await self._cluster.get(CLAIM, seen.em.namespace, seen.em.existing_claim)
        return replace(seen, em=volumes.as_it_is(seen.em, claim))

    def _cached(self, seen: Observed, size: Size | None, step: Step, plan: Plan, note: str) -> Cached:
        known = plan.wanted
        if known is not None and not filled(
            seen, seen.deployments.get(naming.deployment(seen.em, known.fingerprint))
        ):
            known = None
        # a suspended resource has no Job, and where the claim is filled it needs none
        state = Done(known) if known and seen.em.suspended else step.state
        before = step.before or prefetch.previous(seen.jobs.get(naming.job(seen.em)))
        cached = caching.cached(seen.em, state, step.progress, known, before)
        if seen.em.suspended and not cached.holds:
            cached = replace(cached, reason=status.SUSPENDED.reason, message=status.SUSPENDED.message)
        cached = caching.unfollowed(seen.em, cached, following.trouble(seen))
        words = f"{cached.message}. {note}" if note else cached.message
        return replace(cached, message=words, size=sizing.shown(seen, size))

    async def _apply_options(self, seen: Observed, desired: dict[str, Any] | None, writer: Writer) -> None:
        if desired is not None:
            await writer.ensure(desired, seen.of(CONFIG_MAP).get(desired["metadata"]["name"]))

    def _templates(self, em: EmbeddingModel, plan: Plan) -> dict[str, Body]:
        """Returns what the spec would make the pods of each set from, by the fingerprint's short form."""
        return {
            naming.short(facts.fingerprint): deployment(em, facts, self._runtime)["spec"]["template"]
            for facts in plan.sets
        }

    async def _apply_sets(self, seen: Observed, plan: Plan, way: Course, writer: Writer) -> Observed:
        """Applies Deployments and Service. Returns the view with what was answered: the watches lag."""
        em, found = seen.em, dict(seen.deployments)
        for facts in plan.sets:
            config_map = options.serving(em, facts)
            await self._apply_options(seen, config_map, writer)
            short, name = naming.short(facts.fingerprint), naming.deployment(em, facts.fingerprint)
            choice = way.choices[short]
            if choice.record is not None:
                await self._keep(seen, name, choice.record, config_map, writer)
            if text := revisions.kept_options(seen, name, choice.current):
                await self._apply_options(seen, options.restored(em, text), writer)
            if short in way.sizes:
                own = plan.wanted is not None and rollout.same(facts, plan.wanted)
                desired = made_from(deployment(em, facts, self._runtime), choice)
                desired["spec"] |= {
                    "replicas": way.sizes[short],
                    "strategy": strategy(replace=way.replaces and own),
                }
                if own and way.since is not None:
                    desired["metadata"]["annotations"][naming.ROOM_ANNOTATION] = stamp(way.since)
                found[name] = await writer.ensure(desired, found.get(name))
        if plan.serving is not None:
            body = seen.services.get(em.name)
            moves = rollout.service_moves(body, plan.serving)
            moved = await writer.ensure(service(em, plan.serving.fingerprint), body, version=moves)
            away = volumes.gives_way(seen, plan.serving.fingerprint)
            guard = budget(em, plan.serving.fingerprint, gives_way=away)
            await writer.ensure(guard, seen.of(BUDGET).get(em.name))
            seen = seen.having(SERVICE, [moved])
        return seen.having(DEPLOYMENT, found.values())

    async def _keep(
        self, seen: Observed, deployment: str, version: Version, config_map: Body, writer: Writer
    ) -> None:
        before = seen.of(REVISION).get(naming.revision(deployment, version.digest))
        text = options.mounted(version.template, [config_map, *seen.of(CONFIG_MAP).values()])
        await writer.ensure(revision(seen.em, deployment, version, text, before), before)

    async def _prune(self, seen: Observed, plan: Plan, way: Course, writer: Writer) -> None:
        wanted = {naming.deployment(seen.em, short): choice.wanted for short, choice in way.choices.items()}
        given_up = {naming.deployment(seen.em, short) for short in way.choices.keys() - way.sizes.keys()}
        old = [(DEPLOYMENT, name) for name in given_up & seen.deployments.keys()]
        old += [(REVISION, name) for name in revisions.outdated(seen, wanted)]
        old += [(CONFIG_MAP, name) for name in options.unused(seen, plan.sets)]
        for kind, name in [*plan.prune, *old]:
            await writer.delete(seen.of(kind)[name])
            log.info("pruned", kind=kind, name=name, resource=str(seen.em.key))

    async def _report(
        self,
        seen: Observed,
        plan: Plan,
        way: Course,
        cached: Cached,
        accepted: Verdict,
        now: datetime,
    ) -> None:
        em = seen.em
        wanted = status.status(seen, plan, way, cached, accepted, now)
        if not fields.unchanged({"status": wanted}, em.body, naming.FIELD_MANAGER, "status"):
            try:
                await self._cluster.apply_status(em, wanted)
            except NotFoundError as error:
                raise OwnerGoneError(str(em.key)) from error
        before = self._announced.get(em.key) or events.standing(em.status)
        self._announced[em.key] = events.standing(wanted)
        if not rollout.paused(em):
            for entry in events.news(before, wanted):
                await self._tell(em, entry)

    async def _tell(self, em: EmbeddingModel, entry: News) -> None:
        reason, message, warning = entry.reason, entry.message, entry.warning
        log.info("told", resource=str(em.key), reason=reason, message=message, warning=warning)
        try:
            await self._cluster.post_event(em, reason=reason, message=message, warning=warning)
        except ApiError as error:
            log.warning("event not written", resource=str(em.key), reason=reason, error=str(error))

    def _forget(self, key: Key) -> None:
        self._announced.pop(key, None)
        self._filler.forget(key)
        self._inquiry.forget(key)
        self._setbacks.forget(key)


def _until(now: datetime, *times: datetime | None) -> list[float]:
    """Returns how many seconds it is until those of the times that there are."""
    return [max(0.5, (when - now).total_seconds()) for when in times if when is not None]
