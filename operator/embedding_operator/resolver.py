"""Brings a Job that asks the hub one step further: makes, follows or repeats it.

What is asked for, and what follows from the answer, is decided elsewhere.
"""

from dataclasses import replace
from datetime import datetime

from embedding_operator import caching, naming, prefetch
from embedding_operator.api import Body, EmbeddingModel
from embedding_operator.facts import Failure
from embedding_operator.line import Line
from embedding_operator.observed import JOB, Observed
from embedding_operator.prefetch import Failed, Lost, Missing, Pending, Resolved, Running, State
from embedding_operator.prefetcher import Prefetcher, Step, placed, work
from embedding_operator.resources import hub, resolve
from embedding_operator.resources.meta import Runtime
from embedding_operator.writer import Writer


class Resolver:
    """Follows the Jobs that ask, for all resources. They stand in one line with those that fetch."""

    def __init__(self, prefetcher: Prefetcher, runtime: Runtime, line: Line) -> None:
        self._prefetcher = prefetcher
        self._runtime = runtime
        self._line = line

    async def step(self, seen: Observed, name: str, state: State, writer: Writer, now: datetime) -> Step:
        """Does what the state of the Job of this name calls for and returns where that leaves it."""
        job = seen.jobs.get(name)
        if job is not None and "deletionTimestamp" in job["metadata"]:
            return Step(state)
        if job is None or isinstance(state, Lost) or self._stale(seen.em, job, state):
            return await self._make(seen.em, name, writer, now, job)
        before = prefetch.previous(job)
        if isinstance(state, Failed):
            return await self._failed(seen, state, job, writer, now)
        if isinstance(state, Running):
            return replace(await self._prefetcher.follow(seen, state, job, now), before=before)
        if isinstance(state, Pending) and state.reason == prefetch.STARTING:
            return replace(await self._prefetcher.look_closer(seen, state, job, now), before=before)
        return Step(state, before=before)

    async def _failed(self, seen: Observed, state: Failed, job: Body, writer: Writer, now: datetime) -> Step:
        await self._prefetcher.note(seen, state, job, writer)
        due = caching.retry_at(state)
        if due is None:
            return Step(state)
        wait = (due - now).total_seconds()
        if wait > 0:
            return Step(state, look_again=wait)
        before = state.failure if state.failure.permanent else None
        step = await self._make(
            seen.em, state.job, writer, now, job, attempt=state.attempt + 1, before=before
        )
        # a place in the line is no news to somebody who has to mend what was wrong
        return replace(step, state=state) if before and isinstance(step.state, Pending) else step

    async def _make(
        self,
        em: EmbeddingModel,
        name: str,
        writer: Writer,
        now: datetime,
        old: Body | None,
        *,
        attempt: int = 1,
        before: Failure | None = None,
    ) -> Step:
        wait = self._line.ask(em.key, hub.address(em, self._runtime), now)
        if wait is not None:
            return Step(Pending(wait.reason, wait.message), look_again=wait.seconds)
        try:
            if old is None:
                old = await writer.check_free(JOB, name)
                if old is not None and naming.is_labelled(old["metadata"].get("labels")):
                    return Step(Missing())  # the watches lag: its event is under way
            if old is not None:
                await writer.delete(old)
            made = await writer.create(resolve.job(em, self._runtime, name, attempt=attempt, before=before))
            self._line.made(em.key, made, now)
        finally:
            self._line.given_up(em.key)  # nothing where it was made
        return Step(Missing(), before=before)

    def _stale(self, em: EmbeddingModel, job: Body, state: State) -> bool:
        """Returns whether a Job without an answer would be made otherwise today."""
        wanted = resolve.job(em, self._runtime, job["metadata"]["name"])
        return not isinstance(state, Resolved) and (
            work(job) != work(wanted) or placed(job) != placed(wanted)
        )
