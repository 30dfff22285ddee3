"""From a prefetch's state to what the resource says about its cache: pure decisions."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from embedding_operator.api import Body, EmbeddingModel
from embedding_operator.cache import advice, following
from embedding_operator.cache.prefetch import (
    STARTING,
    Done,
    Failed,
    Missing,
    Pending,
    Progress,
    Resolved,
    Retrying,
    Running,
    State,
)
from embedding_operator.cache.sizing import Size
from embedding_operator.facts import Facts, Failure

FIRST_RETRY = timedelta(seconds=60)
LONGEST_RETRY = timedelta(minutes=10)

MENDED_ELSEWHERE = frozenset(
    {
        "AccessDenied",
        "ModelNotFound",
        "RevisionNotFound",
        "DigestMismatch",
        "CacheUnwritable",
        "MissingSecret",
    }
)
"""Permanent failures that somebody can mend without the spec: a Secret's content, the hub, the volume."""

FIRST_LOOK = timedelta(minutes=10)
LONGEST_LOOK = timedelta(hours=1)

_REASONS = {
    "resolving": "Resolving",
    "downloading": "Downloading",
    "unpacking": "Unpacking",
    "inspecting": "Inspecting",
    "waiting": "WaitingForHub",
}


@dataclass(frozen=True)
class Cached:
    """The Cached condition and status.cache. stuck: nothing will change by itself.

    size is that of the resource's own claim, None where it has none or nobody knows yet. speed is in bytes a
    second, None where nothing is being fetched.
    """

    holds: bool
    reason: str
    message: str
    phase: str
    bytes: int | None = None
    total: int | None = None
    stuck: bool = False
    size: Size | None = None
    speed: int | None = None


def retry_at(failed: Failed) -> datetime | None:
    """Returns when a Job that gave up is made again: after 1, 2, 4, 8, 10 minutes, or as asked.

    What somebody has to mend first is looked at again after 10, 20, 40, 60 minutes; None: not by itself.
    """
    if failed.failure.permanent and failed.failure.reason not in MENDED_ELSEWHERE:
        return None
    first, longest = (FIRST_LOOK, LONGEST_LOOK) if failed.failure.permanent else (FIRST_RETRY, LONGEST_RETRY)
    delay = min(longest, first * (1 << min(failed.attempt - 1, 8)))
    asked = timedelta(seconds=failed.failure.retry_after or 0)
    return failed.at + max(delay, asked)


def check_at(em: EmbeddingModel, ended: Failed | Resolved, job: Body) -> datetime:
    """Returns when to look up a followed revision again, which this Job has done: after the interval.

    What may pass by itself is tried again as a download is, and nobody is asked before the time that it said.
    """
    if isinstance(ended, Resolved):
        return following.due(em, job)
    soon = retry_at(ended) if not ended.failure.permanent else None
    return soon or following.due(em, job) + timedelta(seconds=ended.failure.retry_after or 0)


def unfollowed(em: EmbeddingModel, cached: Cached, failure: Failure | None) -> Cached:
    """Returns the same with why the revision cannot be looked up again, which changes nothing else."""
    if failure is None or not cached.holds:
        return cached
    words = f"{em.source.revision} cannot be looked up again: {advice.words(em, failure)} It is tried again."
    return replace(cached, reason="CheckFailed", message=f"{cached.message}; {words}")


def cached(
    em: EmbeddingModel,
    state: State,
    progress: Progress | None,
    known: Facts | None,
    before: Failure | None = None,
) -> Cached:
    """Returns what to say about the cache.

    before is what somebody had to mend when the Job was made again: it stands until the Job has news, or the
    condition would come and go with every look.

    known are the facts of a set that already serves this very source from a claim that is still the same one:
    it is filled, whatever became of the Job.
    """
    if known is not None and not isinstance(state, Done):
        return _known(em, state, known)
    if before is not None and _no_news(state, progress):
        words = f"{advice.words(em, before)} It is being tried again."
        return Cached(False, before.reason, words, "Failed", stuck=True)
    match state:
        case Done(facts):
            return Cached(True, "Cached", _held(em, facts), "Cached", facts.bytes, facts.bytes)
        case Failed(failure):
            return _failed(em, state, failure)
        case Retrying(failure):
            again = "" if failure.permanent else " It is tried again within minutes."
            return Cached(False, failure.reason, f"{advice.words(em, failure)}{again}", "Waiting")
        case Pending(reason, message):
            return Cached(False, *advice.pending(em, reason, message), "Pending")
        case Running():
            return _running(em, progress)
        case _:
            return Cached(False, "Pending", "the prefetch Job is being created", "Pending")


def _no_news(state: State, progress: Progress | None) -> bool:
    """Returns whether a Job has not got further than to ask."""
    if isinstance(state, Pending):
        return state.reason == STARTING
    if isinstance(state, Running):
        return progress is None or progress.phase == "resolving"
    return isinstance(state, Missing)


def _known(em: EmbeddingModel, state: State, known: Facts) -> Cached:
    held, count = _held(em, known), known.bytes
    if isinstance(state, Failed):
        words = f"{held}; looking at it again failed: {advice.words(em, state.failure)}"
        return Cached(True, "CheckFailed", words, "Cached", count, count)
    words = f"{held}; the prefetch Job was removed and looks at it again"
    return Cached(True, "Checking", words, "Cached", count, count)


def _running(em: EmbeddingModel, progress: Progress | None) -> Cached:
    what = advice.what(em)
    if progress is None:
        return Cached(False, "Resolving", f"{what}: the prefetch Job has started", "Resolving")
    reason = _REASONS.get(progress.phase, "Downloading")
    phase = "Waiting" if reason == "WaitingForHub" else reason
    words = f"{what}: {progress.phase}"
    if progress.total:
        words += f", {size(progress.bytes)} of {size(progress.total)}"
    if progress.speed is not None:
        words += f", {size(progress.speed)}/s"
    if reason == "WaitingForHub":
        words += f": {advice.fact(progress.message)}. {advice.of(em, 'HubUnreachable')}"
    elif progress.message:
        words += f": {progress.message}"
    return Cached(False, reason, words, phase, progress.bytes, progress.total, speed=progress.speed)


def _failed(em: EmbeddingModel, state: Failed, failure: Failure) -> Cached:
    due = retry_at(state)
    when = due.strftime("%H:%M:%S UTC") if due else ""
    if failure.permanent:
        again = f"To try again without a change of the spec, delete Job {state.job}."
        if when:
            again = f"It is tried again at {when}; to try at once, delete Job {state.job}."
        return Cached(False, failure.reason, f"{advice.words(em, failure)} {again}", "Failed", stuck=True)
    return Cached(
        False,
        failure.reason,
        f"{advice.words(em, failure)} Attempt {state.attempt} gave up; the next one starts at {when}.",
        "Waiting",
    )


def _held(em: EmbeddingModel, facts: Facts) -> str:
    weight = f", {size(facts.bytes)}" if facts.bytes is not None else ""
    if facts.claim:
        place = f", in claim {facts.claim}"
    elif facts.image:
        place = f", in image {facts.image}, which every pod mounts"
    else:
        place = "; every pod fetches it into a volume of its own"
    if facts.folder:
        return f"{facts.model} is {facts.folder}{weight}{place}"
    return f"{facts.model}@{em.source.revision} is commit {facts.commit[:12]}{weight}{place}"


def size(count: int) -> str:
    """Returns a number of bytes for people, in decimal units."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
