"""What to try, in turn, when a batch finds no memory. Pure."""

from collections.abc import Collection
from typing import Literal

Rung = Literal["shrink", "unload", "split", "refuse"]


def next_rung(tried: Collection[Rung], texts: int) -> Rung:
    """What to try next for a batch of so many texts, of which `tried` was of no use.

    First what costs nobody anything: the memory that the session holds and does not use. Then models that
    have no work, then halves of the batch; a single text that finds no memory even so is refused for now.
    """
    if "shrink" not in tried:
        return "shrink"
    if "unload" not in tried:
        return "unload"
    return "split" if texts > 1 else "refuse"
