"""What waits in one class, for all models: sorted by length, and the turns of its requests."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from embedding_runtime.engine.calibration import Calibration
from embedding_runtime.service.policy.window import Item, Limits, Slice, window


@dataclass(frozen=True)
class Model:
    """What a policy knows of an open model: what its batches may hold, and what they cost."""

    limits: Limits
    costs: Calibration


@dataclass
class _Waiting:
    slot: int
    items: list[Item] = field(default_factory=list)


class Line:
    """Requests take turns.

    A request at its turn puts its longest waiting text into the batch, which is then filled from every
    request of the same model. So a request of n texts is done after at most n of its turns, however large the
    others are. `tokens`: what waits. `milliseconds`: what that takes in good batches, by slot.
    """

    def __init__(self) -> None:
        self._sorted: dict[int, list[Item]] = {}
        self._models: dict[int, Model] = {}
        self._requests: dict[int, _Waiting] = {}
        self._turns: deque[int] = deque()
        self.tokens = 0
        self.milliseconds: dict[int, float] = {}

    def __len__(self) -> int:
        """The number of texts that wait."""
        return sum(map(len, self._sorted.values()))

    def __bool__(self) -> bool:
        return bool(self._turns)

    def open(self, slot: int, model: Model) -> None:
        """From now on requests for this model may be added."""
        self._models[slot], self._sorted[slot], self.milliseconds[slot] = model, [], 0.0

    def narrow(self, slot: int, tokens: int) -> None:
        """From now on a batch of this model holds so many padded tokens at most."""
        model = self._models[slot]
        limits = Limits(min(tokens, model.limits.tokens), model.limits.texts, model.limits.grid)
        self._models[slot] = Model(limits, model.costs)

    def close(self, slot: int) -> None:
        """Forget a model that nothing waits for. An unknown one is no error."""
        self._models.pop(slot, None)
        self._sorted.pop(slot, None)
        self.milliseconds.pop(slot, None)

    def add(self, request: int, slot: int, lengths: Sequence[int]) -> None:
        """A request of texts with these lengths joins at the end of the turns."""
        items = sorted((length, request, index) for index, length in enumerate(lengths))
        for item in items:
            insort(self._sorted[slot], item)
            self._count(slot, item, 1)
        self._requests[request] = _Waiting(slot, items)
        self._turns.append(request)

    def drop(self, request: int) -> None:
        """Forget what still waits of a request. Unknown requests are no error."""
        waiting = self._requests.pop(request, None)
        if waiting is None:
            return
        self._turns.remove(request)
        line = self._sorted[waiting.slot]
        for item in waiting.items:
            del line[bisect_left(line, item)]
            self._count(waiting.slot, item, -1)
        self._settle(waiting.slot)

    def cut(self, bound: Callable[[Calibration], Slice] | None = None) -> tuple[int, list[Item]]:
        """The slot and the texts of the next batch, which wait no longer. Something must be waiting.

        `bound`: how long a batch of a model with these costs may take; None for as long as it pays.
        """
        request = self._turns.popleft()
        self._turns.append(request)
        waiting = self._requests[request]
        line, model = self._sorted[waiting.slot], self._models[waiting.slot]
        anchor = bisect_left(line, waiting.items[-1])
        within = bound(model.costs) if bound else None
        low, high = window(line, anchor, model.limits, model.costs, within)
        taken = line[low:high]
        del line[low:high]
        for item in taken:
            self._leave(waiting.slot, item)
        self._settle(waiting.slot)
        return waiting.slot, taken

    def _leave(self, slot: int, item: Item) -> None:
        request = item[1]
        waiting = self._requests[request]
        del waiting.items[bisect_left(waiting.items, item)]
        self._count(slot, item, -1)
        if not waiting.items:
            del self._requests[request]
            self._turns.remove(request)

    def _count(self, slot: int, item: Item, sign: int) -> None:
        self.tokens += sign * item[0]
        self.milliseconds[slot] += sign * self._models[slot].costs.share(item[0])

    def _settle(self, slot: int) -> None:
        """What was added and taken away again in another order leaves a rest of rounding."""
        if not self._sorted[slot]:
            self.milliseconds[slot] = 0.0
