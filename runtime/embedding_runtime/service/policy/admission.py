"""Which requests may wait: whole ones, never half of one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Ahead:
    """What a request would wait for: tokens, and the seconds that they take."""

    tokens: int
    seconds: float


@dataclass(frozen=True)
class Bounds:
    """What may wait at most: tokens, and the seconds that a request would wait for its turn."""

    tokens: int
    seconds: float


@dataclass(frozen=True)
class Refusal:
    """Why a request may not wait, and in how many seconds it may, if nothing else comes."""

    reason: str
    seconds: float


def refusal(ahead: Ahead, tokens: int, bounds: Bounds) -> Refusal | None:
    """Whether a request of so many tokens has to come back later, and when; None where it may wait now.

    Where nothing is ahead of it a request is always taken: its size is bounded where it came in.
    """
    if not ahead.tokens:
        return None
    excess = ahead.tokens + tokens - bounds.tokens
    if excess > 0:
        share = min(1.0, excess / ahead.tokens)
        return Refusal(f"the queue is full: {ahead.tokens} tokens wait", ahead.seconds * share)
    if ahead.seconds > bounds.seconds:
        return Refusal(
            f"the queue is too long: what waits takes {ahead.seconds:.1f} s", ahead.seconds - bounds.seconds
        )
    return None
