"""Everything that waits, in two classes: queries that somebody waits for, and bulk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from embedding_runtime.engine.calibration import Calibration
from embedding_runtime.service.policy.admission import Ahead
from embedding_runtime.service.policy.line import Line, Model
from embedding_runtime.service.policy.window import Limits, Slice

Priority = Literal["interactive", "bulk"]
PRIORITIES: tuple[Priority, ...] = ("interactive", "bulk")

# A request that does not say is taken for a query up to so many texts.
MOST_INTERACTIVE_TEXTS = 8

# Where an interactive request came within the last second, another one is expected: batches of bulk are kept
# short. The longer none came, the longer they may get, by so many milliseconds a second.
_EXPECTING_SECONDS, _GROWTH = 1.0, 30.0
_SLICE = Slice(usual=10.0, most=30.0, kept=0.9)
# What bulk gets of the time while interactive requests leave it none: enough that nobody waits for ever.
_BULK_SHARE = 0.2
# A model's measured costs are believed to be wrong by at most such a factor, and learnt so fast.
_LEAST_PACE, _MOST_PACE, _SMOOTHING = 0.25, 8.0, 0.2


def priority_of(texts: int) -> Priority:
    """The class of a request that does not name one."""
    return "interactive" if texts <= MOST_INTERACTIVE_TEXTS else "bulk"


@dataclass(frozen=True)
class Cut:
    """A batch: the model's slot, the class, (request, index of the text) for each row.

    `tokens` without and `padded` with padding; `milliseconds` that it takes by the calibration.
    """

    slot: int
    priority: Priority
    items: tuple[tuple[int, int], ...]
    tokens: int
    padded: int
    milliseconds: float


class Backlog:
    """Interactive requests go first, bulk fills the rest. The caller names requests and models by integers.

    While interactive requests come, a batch of bulk is a short slice, so that the next one waits for little.
    While they fill the time, bulk gets a fixed share of it. Within a class requests take turns (`Line`).
    A model's pace is how many times longer than calibrated its batches take now: others use the processor
    too, and what a model was calibrated beside has gone meanwhile.
    """

    def __init__(self) -> None:
        self._paces: dict[int, float] = {}
        self._interactive, self._bulk = Line(), Line()
        self._costs: dict[int, Calibration] = {}
        self._last_interactive = float("-inf")
        # Milliseconds that bulk's share has come to while it waited; below 0 where it took more.
        self._owed = 0.0

    def __len__(self) -> int:
        """The number of texts that wait."""
        return len(self._interactive) + len(self._bulk)

    def line(self, priority: Priority) -> Line:
        """What waits in a class; only to be read."""
        return self._interactive if priority == "interactive" else self._bulk

    def pace(self, slot: int) -> float:
        """How many times longer than calibrated the batches of an open model take now."""
        return self._paces[slot]

    def open(self, slot: int, limits: Limits, costs: Calibration) -> None:
        """From now on requests for this model may be added."""
        self._costs[slot], self._paces[slot] = costs, 1.0
        for line in (self._interactive, self._bulk):
            line.open(slot, Model(limits, costs))

    def narrow(self, slot: int, tokens: int) -> None:
        """From now on a batch of this model holds so many padded tokens at most: more find no memory."""
        for line in (self._interactive, self._bulk):
            line.narrow(slot, tokens)

    def close(self, slot: int) -> None:
        """Forget a model that nothing waits for. An unknown one is no error."""
        self._costs.pop(slot, None)
        self._paces.pop(slot, None)
        for line in (self._interactive, self._bulk):
            line.close(slot)

    def add(self, request: int, slot: int, lengths: Sequence[int], priority: Priority, now: float) -> None:
        """A request of texts with these lengths waits from now on."""
        if priority == "interactive":
            self._last_interactive = now
        self.line(priority).add(request, slot, lengths)

    def drop(self, request: int) -> None:
        """Forget what still waits of a request, before it costs compute. Unknown requests are no error."""
        self._interactive.drop(request)
        self._bulk.drop(request)

    def ahead(self, priority: Priority) -> Ahead:
        """What a request of this class that comes now would wait for.

        A query does not wait for bulk, but for its share: so bulk alone never has a query refused.
        """
        queries, bulk = self._interactive, self._bulk
        if priority == "bulk":
            return Ahead(queries.tokens + bulk.tokens, self._seconds(queries) + self._seconds(bulk))
        stretched = 1 - _BULK_SHARE if bulk else 1.0
        return Ahead(queries.tokens, self._seconds(queries) / stretched)

    def cut(self, now: float) -> Cut | None:
        """The next batch, no longer waiting; None when nothing waits."""
        contended = bool(self._interactive) and bool(self._bulk)
        if not self._interactive and not self._bulk:
            return None
        bulk = self._owed >= _SLICE.usual if contended else not self._interactive
        line, bound = (self._bulk, self._slice(now)) if bulk else (self._interactive, None)
        slot, items = line.cut(bound)
        padded = len(items) * items[-1][0]
        taking = self._costs[slot].milliseconds(len(items), items[-1][0])
        self._settle(taking * self._paces[slot], bulk=bulk, contended=contended)
        return Cut(
            slot,
            "bulk" if bulk else "interactive",
            tuple((request, index) for _, request, index in items),
            sum(length for length, _, _ in items),
            padded,
            taking,
        )

    def ran(self, cut: Cut, seconds: float) -> None:
        """A batch of an open model took so long: learn the model's pace."""
        found = min(_MOST_PACE, max(_LEAST_PACE, 1000 * seconds / cut.milliseconds))
        self._paces[cut.slot] += _SMOOTHING * (found - self._paces[cut.slot])

    def _seconds(self, line: Line) -> float:
        """What all that waits in a line takes at the pace of now."""
        return sum(self._paces[slot] * taking for slot, taking in line.milliseconds.items()) / 1000

    def _slice(self, now: float) -> Slice:
        """How long a batch of bulk may take now, by the calibration.

        Where neighbours slow the machine down, slices take longer, as queries do.
        """
        quiet = now - self._last_interactive
        if self._interactive or quiet < _EXPECTING_SECONDS:
            return _SLICE
        return Slice(_GROWTH * quiet, _GROWTH * quiet, _SLICE.kept)

    def _settle(self, milliseconds: float, *, bulk: bool, contended: bool) -> None:
        """Keep account of what bulk is owed: a share of the time in which both classes have work."""
        if not contended:
            self._owed = 0.0
        elif bulk:
            self._owed -= milliseconds
        else:
            self._owed += milliseconds * _BULK_SHARE / (1 - _BULK_SHARE)
