"""Brings a model into its claim: asks how large it is, makes the claim, has a Job fill it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from embedding_operator import naming, sizing
from embedding_operator.api import Key
from embedding_operator.claiming import Claimer
from embedding_operator.line import WAITING, Line
from embedding_operator.observed import CONFIG_MAP, SERVICE, Observed
from embedding_operator.ports import Cluster
from embedding_operator.prefetch import Pending, State
from embedding_operator.prefetcher import Prefetcher, Step
from embedding_operator.resolver import Resolver
from embedding_operator.resources import options
from embedding_operator.resources.meta import Runtime
from embedding_operator.rollout import Plan
from embedding_operator.sizing import Size
from embedding_operator.writer import Writer


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
        step, note = await self._next(seen, size, plan, state, writer, now)
        if not isinstance(step.state, Pending) or step.state.reason != WAITING:
            self._line.leave(seen.em.key)
        return step, note

    async def _next(
        self, seen: Observed, size: Size | None, plan: Plan, state: State, writer: Writer, now: datetime
    ) -> tuple[Step, str]:
        em = seen.em
        if naming.claim(em) not in seen.claims and em.name not in seen.services:
            await writer.check_free(SERVICE, em.name)  # before anything is downloaded for it
        note = ""
        if em.makes_claim:  # else there is none, or somebody's; the scheduler says where that is missing
            if size is None:
                return await self._ask(seen, writer, now), ""
            note = await self._claimer.apply(seen, size, writer, now)
        if em.suspended:
            return Step(state), note
        await self._apply_options(seen, options.fetching(em), writer)
        commit = plan.wanted.commit if plan.wanted and plan.wanted.job == naming.job(em) else None
        return await self._prefetcher.step(seen, state, writer, now, commit), note

    async def _ask(self, seen: Observed, writer: Writer, now: datetime) -> Step:
        state = sizing.asked(seen)
        if seen.em.suspended:
            return Step(state)
        await self._apply_options(seen, options.fetching(seen.em), writer)
        return await self._resolver.step(seen, naming.sizing_job(seen.em), state, writer, now)

    async def _apply_options(self, seen: Observed, desired: dict[str, Any] | None, writer: Writer) -> None:
        if desired is not None:
            await writer.ensure(desired, seen.of(CONFIG_MAP).get(desired["metadata"]["name"]))
