"""Brings a Job that asks the hub one step further: makes, follows or repeats it.

What is asked for, and what follows from the answer, is decided elsewhere.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from embedding_operator import naming
from embedding_operator.api import Body, EmbeddingModel
from embedding_operator.cache import caching, following, prefetch, sizing
from embedding_operator.cache.prefetch import Failed, Lost, Missing, Pending, Resolved, Running, State
from embedding_operator.facts import Failure
from embedding_operator.fetching.line import Line
from embedding_operator.fetching.prefetcher import Prefetcher, Step, placed, work
from embedding_operator.observed import JOB, Observed
from embedding_operator.resources import hub, resolve
from embedding_operator.resources.meta import Runtime
from embedding_operator.writer import Writer


@dataclass(frozen=True)
class _Question:
    """What is asked: what this revision means. commit: what it meant before, where that is known.

    last: the Job that has asked, None before the first. next: the name of the one that asks again.
    """

    revision: str
    last: Body | None
    next: str
    commit: str | None = None


class Resolver:
    """Follows the Jobs that ask, for all resources. They stand in one line with those that fetch."""

    def __init__(self, prefetcher: Prefetcher, runtime: Runtime, line: Line) -> None:
        self._prefetcher = prefetcher
        self._runtime = runtime
        self._line = line

    async def size(self, seen: Observed, writer: Writer, now: datetime) -> Step:
        """Takes the Job that asks how large the model is one step further."""
        name, state = naming.sizing_job(seen.em), sizing.asked(seen)
        again = caching.retry_at(state) if isinstance(state, Failed) else None
        question = _Question(seen.em.source.at, seen.jobs.get(name), name)
        return await self._step(seen, question, state, again, writer, now)

    async def check(self, seen: Observed, writer: Writer, now: datetime) -> Step:
        """Takes the Jobs that ask what a followed revision means one step further."""
        em, last, state = seen.em, following.last(seen), following.asked(seen)
        known, again = following.known(seen), None
        if isinstance(state, Failed) and known is None:
            again = caching.retry_at(state)
        elif last is not None and isinstance(state, Failed | Resolved):
            again = caching.check_at(em, state, last)
        question = _Question(em.source.revision, last, following.next_name(seen), known)
        return await self._step(seen, question, state, again, writer, now)

    async def _step(
        self,
        seen: Observed,
        question: _Question,
        state: State,
        again: datetime | None,
        writer: Writer,
        now: datetime,
    ) -> Step:
        job = question.last
        if job is None or isinstance(state, Lost) or self._stale(seen.em, question.revision, job, state):
            return await self._make(seen, question, writer, now)
        if isinstance(state, Failed):
            await self._prefetcher.note(seen, state, job, writer)
        elif isinstance(state, Resolved):
            await self._prefetcher.keep(seen, job, writer)
        else:
            return replace(await self._wait(seen, state, job, now), before=_standing(prefetch.previous(job)))
        if again is None:
            return Step(state)
        if again > now:
            return Step(state, look_again=(again - now).total_seconds())
        failure = state.failure if isinstance(state, Failed) else None
        attempt = state.attempt + 1 if isinstance(state, Failed) else 1
        step = await self._make(seen, question, writer, now, attempt, failure)
        # a place in the line is no news to somebody who has to mend what was wrong
        return replace(step, state=state) if step.before and isinstance(step.state, Pending) else step

    async def _wait(self, seen: Observed, state: State, job: Body, now: datetime) -> Step:
        if isinstance(state, Running):
            return await self._prefetcher.follow(seen, state, job, now)
        if isinstance(state, Pending) and state.reason == prefetch.STARTING:
            return await self._prefetcher.look_closer(seen, state, job, now)
        return Step(state)

    async def _make(
        self,
        seen: Observed,
        question: _Question,
        writer: Writer,
        now: datetime,
        attempt: int = 1,
        failure: Failure | None = None,
    ) -> Step:
        em, old = seen.em, seen.jobs.get(question.next)
        if old is not None and "deletionTimestamp" in old["metadata"]:
            return Step(Missing())
        # while a commit is known, the failure is told beside what serves, whatever it is
        before = failure if question.commit else _standing(failure)
        wait = self._line.ask(em.key, hub.address(em, self._runtime), now)
        if wait is not None:
            return Step(Pending(wait.reason, wait.message), look_again=wait.seconds, before=_standing(before))
        try:
            if old is None:
                old = await writer.check_free(JOB, question.next)
                if old is not None and naming.is_labelled(old["metadata"].get("labels")):
                    return Step(Missing())  # the watches lag: its event is under way
            if old is not None:
                await writer.delete(old)
            wanted = resolve.job(
                em,
                self._runtime,
                question.next,
                question.revision,
                commit=question.commit,
                attempt=attempt,
                before=before,
            )
            self._line.made(em.key, await writer.create(wanted), now)
        finally:
            self._line.given_up(em.key)  # nothing where it was made
        return Step(Missing(), before=_standing(before))

    def _stale(self, em: EmbeddingModel, revision: str, job: Body, state: State) -> bool:
        """Returns whether a Job without an answer would be made otherwise today."""
        if isinstance(state, Resolved):
            return False
        wanted = resolve.job(em, self._runtime, job["metadata"]["name"], revision)
        return work(job) != work(wanted) or placed(job) != placed(wanted)


def _standing(failure: Failure | None) -> Failure | None:
    """Returns a failure that stands until there is news, since somebody has to mend it."""
    return failure if failure and failure.permanent else None
