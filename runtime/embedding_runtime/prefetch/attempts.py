"""One model into the cache, or only what it would be, asking again for a while where the failure may pass."""

import random
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from embedding_runtime.errors import RuntimeFault
from embedding_runtime.model.obtain import Access, acquire, plan
from embedding_runtime.model.source import ModelSource
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.prefetch.progress import Progress
from embedding_runtime.registry.plan import Plan
from embedding_runtime.telemetry import logger

_log = logger("prefetch")

_FIRST_WAIT, _LAST_WAIT = 1.0, 15.0

_Found = TypeVar("_Found")


def fetch(wanted: Wanted, access: Access, retry_seconds: float, progress: Progress) -> ModelSource:
    """The model as it lies in the cache then; transient failures are tried again for `retry_seconds`.

    A folder is looked at once: what it lacks does not come within seconds. Raises ModelError, CacheError, and
    HubError when the time is over.
    """
    seconds = retry_seconds if wanted.folder is None else 0.0
    return patiently(partial(_once, wanted, access, progress), seconds, progress)


def resolve(wanted: Wanted, access: Access, retry_seconds: float, progress: Progress) -> Plan:
    """What would be fetched of the model now; nothing is written. Failures as for `fetch`."""

    def ask() -> Plan:
        progress("resolving", f"asking {access.endpoint} for {wanted.ref}")
        return plan(wanted, access)

    return patiently(ask, retry_seconds, progress)


def patiently(once: Callable[[], _Found], retry_seconds: float, progress: Progress) -> _Found:
    """What `once` returns; where it fails in a way that may pass it is called again for `retry_seconds`."""
    deadline = time.monotonic() + retry_seconds
    wait = _FIRST_WAIT
    while True:
        try:
            return once()
        except RuntimeFault as error:
            pause = max(wait, error.retry_after or 0) * random.uniform(1, 1.25)
            if error.permanent or time.monotonic() + pause > deadline:
                raise
            _log.warning("trying again", wait=round(pause, 1), code=error.code, error=error.message)
            progress("waiting", f"trying again in {pause:.0f} s: {error.message}")
            if error.retry_after:
                progress.paused(error.retry_after)
            time.sleep(pause)
            wait = min(_LAST_WAIT, 2 * wait)


def _once(wanted: Wanted, access: Access, progress: Progress) -> ModelSource:
    if wanted.folder is None and not access.offline:
        asking = "looking for" if wanted.ref.is_pinned else f"asking {access.endpoint} for"
        progress("resolving", f"{asking} {wanted.ref}")

    def report(had: int, total: int | None) -> None:
        progress("downloading", str(wanted.ref), had, total)

    return acquire(wanted, access, report)
