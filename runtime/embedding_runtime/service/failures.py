"""How a failed load is remembered, so that not every request tries again, and what a request is told of it.
Pure: the clock is passed in.
"""

from dataclasses import dataclass

from embedding_runtime.errors import (
    LoadDelayedError,
    LoadFailedError,
    ModelNotFoundError,
    NotCachedError,
    OutOfMemoryError,
    RequestError,
    RevisionNotFoundError,
    RuntimeFault,
    ServingError,
    UnknownModelError,
    UnsupportedModelError,
    UnsupportedModelRequestError,
)
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.service.state import State

_FIRST_SECONDS, _LAST_SECONDS = 1.0, 30.0
_PERMANENT_SECONDS = 300.0

# What is wrong with the name itself.
_NO_SUCH_MODEL = (ModelNotFoundError, RevisionNotFoundError, NotCachedError)


@dataclass(frozen=True)
class Failure:
    """The last of `attempts` failures in a row; not before `until` (monotonic) is it worth another try."""

    error: RuntimeFault
    attempts: int
    seconds: float
    until: float

    def told(self, now: float) -> RuntimeFault | None:
        """What a request is told instead of another try; None when it is time for one."""
        if now >= self.until:
            return None
        if not self.error.permanent:
            self.error.retry_after = max(1.0, round(self.until - now, 1))
        return self.error

    def due(self, now: float, *, by_itself: bool) -> bool:
        """Whether to try again although nobody asks: only a default model, and only what may mend itself."""
        return by_itself and not self.error.permanent and now >= self.until


def after(before: Failure | None, error: RuntimeFault, now: float) -> Failure:
    """The failure to remember after `error`, given the one before it."""
    attempts = before.attempts + 1 if before else 1
    seconds = min(_LAST_SECONDS, _FIRST_SECONDS * 2.0 ** min(attempts - 1, 16))
    # Whether the cache holds a model by now costs nothing to find out.
    if error.permanent and not isinstance(error, NotCachedError):
        seconds = _PERMANENT_SECONDS
    if isinstance(error, OutOfMemoryError):
        # Whether there is room depends on other models, not on how often this one found none.
        seconds = _FIRST_SECONDS
    seconds = max(seconds, error.retry_after or 0.0)
    return Failure(error, attempts, seconds, now + seconds)


def state(error: RuntimeFault) -> State:
    """The state of a model that failed so."""
    return "exhausted" if isinstance(error, OutOfMemoryError) else "load_failed"


def as_answer(error: RuntimeFault, wanted: Wanted, *, only_asked_for: bool) -> RuntimeFault:
    """What a request is told of a failed load; `only_asked_for`: no setting names the model."""
    if isinstance(error, ServingError | RequestError):
        return error
    if only_asked_for and isinstance(error, _NO_SUCH_MODEL):
        return UnknownModelError(error.message, param="model")
    if only_asked_for and isinstance(error, UnsupportedModelError):
        return UnsupportedModelRequestError(error.message, param="model")
    kind = LoadFailedError if error.permanent else LoadDelayedError
    message = f"{wanted.name} could not be loaded: {error.message}"
    return kind(message, retry_after=None if error.permanent else error.retry_after or 1.0)
