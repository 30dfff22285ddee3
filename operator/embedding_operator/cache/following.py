"""Which commit a followed revision means, and when to ask again: pure decisions from what is observed.

A Job asks every revisionCheckInterval, and is the record of what is known: its answer, or, while it has
none, what was known when it was made. A commit that is known takes the revision's place in all that is named
by it or fetched (Source.at), so that a branch that moves is a change of the source as any other.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction

from embedding_operator import facts, naming
from embedding_operator.api import Body, EmbeddingModel
from embedding_operator.cache import advice, prefetch
from embedding_operator.cache.prefetch import STARTING, Failed, Pending, Resolved, State
from embedding_operator.facts import Failure
from embedding_operator.observed import Observed, annotation, condition, timestamp

SPREAD = Fraction(1, 10)
"""How far a resource's interval is from what the spec says, at most: they shall not ask all at once."""


def followed(seen: Observed) -> EmbeddingModel:
    """Returns the resource with the commit that its revision means; unchanged where that is not followed.

    What was fetched under the revision's own name, before that was followed, is used while it is that commit.
    """
    em, commit = seen.em, known(seen)
    if commit is None or any(found.job == naming.job(em) for found in _of(seen, commit)):
        return em
    return _at(em, commit)


def known(seen: Observed) -> str | None:
    """Returns the commit that the followed revision means, as far as anybody knows.

    Where no Job tells, since somebody removed it, it is what was fetched last, else what the youngest set
    serves.
    """
    if not seen.em.source.follows:
        return None
    for job in reversed(_checks(seen)):
        state = prefetch.state(job, seen.pods_of(job))
        commit = state.resolution.commit if isinstance(state, Resolved) else None
        if commit := commit or annotation(job, naming.COMMIT_ANNOTATION):
            return commit
    return _fetched(seen) or _served(seen)


def last(seen: Observed) -> Body | None:
    """Returns the last Job that asked what the revision means, None where there is none."""
    return next(reversed(_checks(seen)), None)


def asked(seen: Observed) -> State:
    """Returns where that Job stands."""
    job = last(seen)
    return prefetch.state(job, seen.pods_of(job) if job else ())


def kept(seen: Observed) -> set[str]:
    """Returns the name of the Job that the known commit stands on, if there is one."""
    job = last(seen)
    return {job["metadata"]["name"]} if job else set()


def next_name(seen: Observed) -> str:
    """Returns the name of the Job that asks next: not that of the last one, which may still be needed."""
    first, second = naming.check_jobs(seen.em)
    return second if first in kept(seen) else first


def trouble(seen: Observed) -> Failure | None:
    """Returns why the revision cannot be looked up, until it can; None where nothing is wrong."""
    job, state = last(seen), asked(seen)
    match state:
        case Failed(failure):
            return failure
        case Pending(reason, message) if reason != STARTING:
            return Failure(*advice.pending(seen.em, reason, message), permanent=False)
        case Resolved():
            return None
        case _:
            return prefetch.previous(job)


def due(em: EmbeddingModel, job: Body) -> datetime:
    """Returns when to ask again after this Job, which has ended; jittered by the resource's uid."""
    ends = [condition(job, kind) for kind in ("Complete", "Failed")]
    times = [timestamp(found.get("lastTransitionTime")) for found in ends if found]
    times.append(timestamp(job["metadata"].get("creationTimestamp")))
    ended = next(time for time in times if time is not None)
    return ended + timedelta(seconds=em.source.check_interval * float(_share(em.uid)))


def _checks(seen: Observed) -> Sequence[Body]:
    names = naming.check_jobs(seen.em) if seen.em.source.follows else ()
    return [job for name, job in seen.jobs.items() if name in names]


def _fetched(seen: Observed) -> str | None:
    for name, job in reversed(list(seen.jobs.items())):
        commit = prefetch.revision(job)
        if commit != seen.em.source.revision and name == naming.job(_at(seen.em, commit)):
            return commit
    return None


def _served(seen: Observed) -> str | None:
    plain = naming.job(_at(seen.em, None))
    found = [
        told.commit
        for told in facts.recorded(seen).values()
        if told.job in (plain, naming.job(_at(seen.em, told.commit)))
    ]
    return found[-1] if found else None


def _share(uid: str) -> Fraction:
    place = Fraction(int.from_bytes(hashlib.sha256(uid.encode()).digest()[:4]), 1 << 32)
    return 1 + SPREAD * (2 * place - 1)


def _of(seen: Observed, commit: str) -> list[facts.Facts]:
    return [found for found in facts.recorded(seen).values() if found.commit == commit]


def _at(em: EmbeddingModel, commit: str | None) -> EmbeddingModel:
    return replace(em, source=replace(em.source, commit=commit))
