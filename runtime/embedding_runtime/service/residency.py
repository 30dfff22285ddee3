"""Which models stay in memory. Pure: no clock, no I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Resident:
    """A model in memory, or one that is being built and will be.

    `bytes` that it holds. `kept`: a default model. `busy`: it has waiting or running work, or is being built.
    `last_used` in seconds of any clock.
    """

    slot: int
    bytes: int
    kept: bool
    busy: bool
    last_used: float


def to_unload(residents: Sequence[Resident], needed: int, budget: int | None) -> list[int] | None:
    """The slots to unload, least recently used first, so that `needed` more bytes stay within the budget.

    As few as that takes; none where there is room. None where even all that may go would not make room.
    """
    if budget is None:
        return []
    over = sum(each.bytes for each in residents) + needed - budget
    slots = []
    for each in leaving(residents):
        if over <= 0:
            break
        slots.append(each.slot)
        over -= each.bytes
    return slots if over <= 0 else None


def leaving(residents: Iterable[Resident]) -> list[Resident]:
    """Those that may go, least recently used first: never a default model, nor one with work."""
    return sorted(
        (each for each in residents if not each.kept and not each.busy), key=lambda each: each.last_used
    )


def idle(residents: Iterable[Resident], now: float, seconds: float | None) -> list[int]:
    """The slots of those that may go and were not used for so long; `seconds` None: never."""
    if seconds is None:
        return []
    return [each.slot for each in leaving(residents) if now - each.last_used >= seconds]
