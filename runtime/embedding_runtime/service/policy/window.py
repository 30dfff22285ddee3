"""Which neighbours of a text share its batch."""

from collections.abc import Sequence
from dataclasses import dataclass

from embedding_runtime.engine.calibration import Calibration
from embedding_runtime.engine.grid import Grid

# (length, request, index in the request): sorts by length, and finds its text again.
Item = tuple[int, int, int]

# Of the windows that are almost as good as the best the smallest counts: it is done sooner, and padded less.
_ALMOST = 0.99


@dataclass(frozen=True)
class Limits:
    """What one batch of a model may hold: padded tokens (a single longer text still runs alone) and texts.

    `grid`: which numbers of texts it may have; None: any.
    """

    tokens: int
    texts: int
    grid: Grid | None = None

    def allow(self, texts: int) -> bool:
        """Whether a batch may have just so many texts."""
        return self.grid is None or self.grid.texts(texts) == texts


@dataclass(frozen=True)
class Slice:
    """How long a batch may take, in milliseconds of the calibration.

    `usual`: what it may take anyway; `most`: what it may take where it would else waste more than
    `1 - kept` of the best tokens per millisecond. A single text that takes longer still runs, alone.
    """

    usual: float
    most: float
    kept: float


def window(
    line: Sequence[Item], anchor: int, limits: Limits, costs: Calibration, bound: Slice | None = None
) -> tuple[int, int]:
    """The part of a line, sorted by length, that runs together with its text at `anchor`: low and high.

    It grows to the nearer neighbour while the limits and the bound allow it, and while together costs no more
    than apart; of all that it was on the way and that the limits allow the one with the most tokens, padding
    not counted, per millisecond is taken.
    """
    low, high, real = anchor, anchor + 1, line[anchor][0]
    best, took = _best_rate(costs, limits, real), costs.milliseconds(1, real)
    grown = [(low, high, real / took)]
    while high - low < limits.texts:
        side = _nearer(line, low, high, limits.tokens // (high - low + 1))
        if side is None:
            break
        length = line[low - 1][0] if side < 0 else line[high][0]
        taking = costs.milliseconds(high - low + 1, max(line[high - 1][0], length))
        if taking > took + costs.milliseconds(1, length):
            break
        if bound and taking > bound.usual and (taking > bound.most or grown[-1][2] >= bound.kept * best):
            break
        low, high, real, took = min(low, low + side), max(high, high + side), real + length, taking
        grown.append((low, high, real / took))
    grown = [entry for entry in grown if limits.allow(entry[1] - entry[0])]
    enough = _ALMOST * max(rate for _, _, rate in grown)
    return next((low, high) for low, high, rate in grown if rate >= enough)


def _nearer(line: Sequence[Item], low: int, high: int, room: int) -> int | None:
    """Where the window grows: -1 to the shorter neighbour, 1 to the longer, None where neither has room.

    `room`: how long the longest of one text more may be.
    """
    below = low > 0 and line[high - 1][0] <= room
    above = high < len(line) and line[high][0] <= room
    if not below and not above:
        return None
    if below and above:
        # Padding: a longer text stretches all that are there, a shorter one is stretched itself.
        stretched = (line[high][0] - line[high - 1][0]) * (high - low)
        return -1 if line[high - 1][0] - line[low - 1][0] <= stretched else 1
    return -1 if below else 1


def _best_rate(costs: Calibration, limits: Limits, length: int) -> float:
    """Tokens per millisecond of a full batch of texts of one length."""
    texts = max(1, min(limits.texts, limits.tokens // length))
    return texts * length / costs.milliseconds(texts, length)
