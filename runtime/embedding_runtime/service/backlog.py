"""The batching policy: which waiting texts run next. Pure: no clock, no lock, no I/O.

Requests take turns. A request at its turn puts its longest waiting text into the batch; the batch is then
filled with the texts of any request of the same model whose lengths are nearest, as long as its padded size
(longest text x number of texts) stays within the token budget and the batch size within its limit. So
padding is small, a single query waits for at most one batch per request in front of it however large those
are, and a request of n texts is done after at most n of its turns.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

# (length, request, index in the request): sorts by length, and finds its text again.
_Item = tuple[int, int, int]


@dataclass(frozen=True)
class Limits:
    """What one batch of a model may hold: padded tokens (a single longer text still runs alone) and texts."""

    tokens: int
    texts: int


@dataclass(frozen=True)
class Cut:
    """A batch: the model's slot, and (request, index of the text) for each row."""

    slot: int
    items: tuple[tuple[int, int], ...]


@dataclass
class _Waiting:
    slot: int
    items: list[_Item] = field(default_factory=list)


class Backlog:
    """Everything that waits, for all models. The caller names requests and models by integers."""

    def __init__(self) -> None:
        self._limits: dict[int, Limits] = {}
        self._sorted: dict[int, list[_Item]] = {}
        self._requests: dict[int, _Waiting] = {}
        self._turns: deque[int] = deque()
        self.tokens = 0

    def __len__(self) -> int:
        """The number of texts that wait."""
        return sum(map(len, self._sorted.values()))

    def open(self, slot: int, limits: Limits) -> None:
        """From now on requests for this model may be added."""
        self._limits[slot], self._sorted[slot] = limits, []

    def close(self, slot: int) -> None:
        """Forget a model that nothing waits for. An unknown one is no error."""
        self._limits.pop(slot, None)
        self._sorted.pop(slot, None)

    def add(self, request: int, slot: int, lengths: Sequence[int]) -> None:
        """A request of texts with these lengths joins at the end of the turns."""
        items = sorted((length, request, index) for index, length in enumerate(lengths))
        for item in items:
            insort(self._sorted[slot], item)
        self._requests[request] = _Waiting(slot, items)
        self._turns.append(request)
        self.tokens += sum(lengths)

    def drop(self, request: int) -> None:
        """Forget what still waits of a request, before it costs compute. Unknown requests are no error."""
        waiting = self._requests.pop(request, None)
        if waiting is None:
            return
        self._turns.remove(request)
        for item in waiting.items:
            self._remove(waiting.slot, item)

    def cut(self) -> Cut | None:
        """The next batch, no longer waiting; None when nothing waits."""
        if not self._turns:
            return None
        request = self._turns.popleft()
        self._turns.append(request)
        waiting = self._requests[request]
        line = self._sorted[waiting.slot]
        low, high = _window(line, bisect_left(line, waiting.items[-1]), self._limits[waiting.slot])
        taken = line[low:high]
        del line[low:high]
        for item in taken:
            self._leave(item)
        return Cut(waiting.slot, tuple((owner, index) for _, owner, index in taken))

    def _leave(self, item: _Item) -> None:
        length, request, _ = item
        self.tokens -= length
        waiting = self._requests[request]
        del waiting.items[bisect_left(waiting.items, item)]
        if not waiting.items:
            del self._requests[request]
            self._turns.remove(request)

    def _remove(self, slot: int, item: _Item) -> None:
        line = self._sorted[slot]
        del line[bisect_left(line, item)]
        self.tokens -= item[0]


def _window(line: Sequence[_Item], anchor: int, limits: Limits) -> tuple[int, int]:
    """The slice of the sorted line around `anchor`, grown to the nearer neighbour while it fits."""
    low, high = anchor, anchor + 1
    length = line[anchor][0]
    while high - low < limits.texts:
        room = limits.tokens // (high - low + 1)
        below = low > 0 and line[high - 1][0] <= room
        above = high < len(line) and line[high][0] <= room
        if below and (not above or length - line[low - 1][0] <= line[high][0] - length):
            low -= 1
        elif above:
            high += 1
        else:
            break
    return low, high
