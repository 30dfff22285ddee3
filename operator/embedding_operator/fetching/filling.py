"""Brings a model into its claim: asks how large it is, makes the claim, has a Job fill it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from embedding_operator import naming
from embedding_operator.api import Key
from embedding_operator.cache import following, sizing
from embedding_operator.cache.prefetch import Done, Failed, Pending, State
from embedding_operator.cache.sizing import Size
from embedding_operator.fetching.claiming import Claimer
from embedding_operator.fetching.line import WAITING, Line
from embedding_operator.fetching.prefetcher import Prefetcher, Step
from embedding_operator.fetching.resolver import Resolver
from embedding_operator.observed import CONFIG_MAP, SERVICE, Observed
from embedding_operator.ports import Cluster
from embedding_operator.resources import options
from embedding_operator.resources.meta import Runtime
from embedding_operator.sets.rollout import Plan
from embedding_operator.writer import Writer


def standing(seen: Observed, size: Size | None, state: State) -> State:
    """Returns where the Job stands that the cache waits for; state is that of the one that fetches."""
    if not _is_known(seen):
        return following.asked(seen)
    return state if size or not seen.em.makes_claim else sizing.asked(seen)


def _is_known(seen: Observed) -> bool:
    """Returns whether it is known what to fetch."""
    return not seen.em.source.follows or following.known(seen) is not None


class Filler:
    """Fills the claims of all resources."""

    def __init__(
        self, cluster: Cluster, runtime: Runtime, line: Line, jitter: Callable[[float], float]
    ) -> None:
        self._line = line
        self._claimer = Claimer()
        self._prefetcher = Prefetcher(cluster, runtime, line, jitter)
        self._resolver = Resolver(self._prefetcher, runtime, line)

    def forget(self, key: Key) -> None:
        """Drops what is kept for a resource that is gone."""
        self._prefetcher.forget(key)
        self._claimer.forget(key)
        self._line.leave(key)

    async def fill(
        self, seen: Observed, size: Size | None, plan: Plan, state: State, writer: Writer, now: datetime
    ) -> tuple[Step, str]:
        """Does what comes next, and returns where that leaves it and what is to be said about the claim.

        size is that of the claim, None where that has to be asked for. state is that of the Job that fetches.
        Raises errors.ApiError, NameConflictError, LeftoverError, OwnerGoneError.
        """
        em = seen.em
        if naming.claim(em) not in seen.claims and em.name not in seen.services:
            await writer.check_free(SERVICE, em.name)  # before anything is downloaded for it
        if em.suspended:
            is_sized = size is not None and _is_known(seen)
            note = await self._claimer.apply(seen, size, writer, now) if size and is_sized else ""
            return Step(standing(seen, size, state)), note
        await self._apply_options(seen, options.fetching(em), writer)
        steps, note = await self._steps(seen, size, plan, state, writer, now)
        if not any(isinstance(step.state, Pending) and step.state.reason == WAITING for step in steps):
            self._line.leave(em.key)
        looks = [step.look_again for step in steps if step.look_again is not None]
        return replace(steps[0], look_again=min(looks, default=None)), note

    async def _steps(
        self, seen: Observed, size: Size | None, plan: Plan, state: State, writer: Writer, now: datetime
    ) -> tuple[list[Step], str]:
        """Returns where the Jobs stand, that which the cache waits for first."""
        em, note = seen.em, ""
        if not _is_known(seen):
            return [await self._resolver.check(seen, writer, now)], ""
        if em.makes_claim:  # else there is none, or somebody's; the scheduler says where that is missing
            if size is None:
                return [await self._resolver.size(seen, writer, now)], ""
            note = await self._claimer.apply(seen, size, writer, now)
        commit = plan.wanted.commit if plan.wanted and plan.wanted.job == naming.job(em) else None
        steps = [await self._prefetcher.step(seen, state, writer, now, commit)]
        if em.source.follows and isinstance(steps[0].state, Done | Failed):
            # not while a commit is fetched: another one would make that vain
            steps.append(await self._resolver.check(seen, writer, now))
        return steps, note

    async def _apply_options(self, seen: Observed, desired: dict[str, Any] | None, writer: Writer) -> None:
        if desired is not None:
            await writer.ensure(desired, seen.of(CONFIG_MAP).get(desired["metadata"]["name"]))
