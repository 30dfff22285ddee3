"""The batching policy in simulated time: `python -m bench.simulate TRACE [--calibration FILE]`.

Replays a recorded arrival trace against the policy that the server runs, with a machine whose batches take
exactly what a calibration says. A trace is JSON lines, each a request: `lengths` of its texts in tokens, its
`priority`, and either `at`, seconds from the start, or `client`, a number: a client goes round its requests
without pause, each is sent when the one before is answered. Only the engine is simulated, neither HTTP nor
tokenisation.
"""

from __future__ import annotations

import argparse
import heapq
import json
import statistics
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from embedding_runtime.engine.calibration import Calibration
from embedding_runtime.service.policy.backlog import PRIORITIES, Backlog, Cut, Priority
from embedding_runtime.service.policy.window import Limits

MEASURED = Path(__file__).with_name("results") / "calibration.json"
MOST_TEXTS = 256


@dataclass(frozen=True)
class Arrival:
    """A request; exactly one of `at` and `client` is given."""

    lengths: tuple[int, ...]
    priority: Priority
    at: float | None = None
    client: int | None = None


@dataclass
class Outcome:
    """What came of a trace: latencies in seconds by class, and what the batches held."""

    latencies: dict[Priority, list[float]] = field(default_factory=lambda: {each: [] for each in PRIORITIES})
    tokens: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(PRIORITIES, 0))
    padded: int = 0
    batches: int = 0
    seconds: float = 0.0

    @property
    def padding(self) -> float:
        """The share of padding in all that was computed."""
        return 1 - sum(self.tokens.values()) / self.padded

    def rate(self, priority: Priority) -> float:
        """Tokens of a class per second."""
        return self.tokens[priority] / self.seconds

    def percentile(self, priority: Priority, share: int) -> float:
        """A percentile of the latencies of a class, in seconds."""
        return statistics.quantiles(self.latencies[priority], n=100, method="inclusive")[share - 1]


class Simulation:
    """One machine, one model, one trace."""

    def __init__(self, costs: Calibration, arrivals: Iterable[Arrival]) -> None:
        self._costs, self._backlog, self._now = costs, Backlog(), 0.0
        self._backlog.open(0, Limits(costs.best_tokens, MOST_TEXTS), costs)
        self._arrivals = list(arrivals)
        self._queues: dict[int, deque[int]] = defaultdict(deque)
        self._missing: dict[int, int] = {}
        self._began: dict[int, float] = {}
        self._due: list[tuple[float, int]] = []
        for number, each in enumerate(self._arrivals):
            if each.client is None:
                heapq.heappush(self._due, (each.at or 0.0, number))
            else:
                self._queues[each.client].append(number)
        for queue in self._queues.values():
            heapq.heappush(self._due, (0.0, queue[0]))
        self.outcome = Outcome()

    def run(self, seconds: float) -> Outcome:
        """Until so many seconds are over, or nothing is left; only what ran by then counts."""
        while self._now < seconds:
            self._arrive()
            cut = self._backlog.cut(self._now)
            if cut is not None:
                self._compute(cut)
            elif self._due:
                self._now = self._due[0][0]
            else:
                break
        self.outcome.seconds = min(self._now, seconds)
        return self.outcome

    def _arrive(self) -> None:
        while self._due and self._due[0][0] <= self._now:
            at, number = heapq.heappop(self._due)
            each = self._arrivals[number]
            self._began[number] = at
            self._missing[number] = len(each.lengths)
            self._backlog.add(number, 0, each.lengths, each.priority, at)

    def _compute(self, cut: Cut) -> None:
        took = self._costs.milliseconds(len(cut.items), cut.padded // len(cut.items)) / 1000
        self._now += took
        self._backlog.ran(cut, took)
        self.outcome.tokens[cut.priority] += cut.tokens
        self.outcome.padded += cut.padded
        self.outcome.batches += 1
        for number, _ in cut.items:
            self._missing[number] -= 1
            if not self._missing[number]:
                self._answer(number)

    def _answer(self, number: int) -> None:
        each = self._arrivals[number]
        self.outcome.latencies[each.priority].append(self._now - self._began[number])
        if each.client is not None:
            queue = self._queues[each.client]
            queue.rotate(-1)
            heapq.heappush(self._due, (self._now, queue[0]))


def read(path: Path) -> list[Arrival]:
    """The requests of a trace."""
    rows = (json.loads(line) for line in path.read_text().splitlines())
    return [Arrival(tuple(row["lengths"]), row["priority"], row.get("at"), row.get("client")) for row in rows]


def mixed(costs: Calibration, trace: Sequence[Arrival], seconds: float) -> dict[str, Outcome]:
    """The open-loop requests and the clients of a trace, each alone and both together."""
    return {
        "idle": Simulation(costs, [each for each in trace if each.client is None]).run(seconds),
        "bulk": Simulation(costs, [each for each in trace if each.client is not None]).run(seconds),
        "mixed": Simulation(costs, trace).run(seconds),
    }


def main() -> None:
    """Print what the trace makes of the policy."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulate")
    parser.add_argument("trace", type=Path)
    parser.add_argument(
        "--calibration",
        type=Path,
        help="a table as the server keeps it in PREPARED_CACHE_DIR; left out: what bench.calibrate found",
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    table = json.loads((options.calibration or MEASURED).read_text())
    costs = Calibration.from_json(table if options.calibration else table["cpu_time"]["calibration"])
    found = mixed(costs, read(options.trace), options.seconds)
    for name, outcome in found.items():
        told = [f"{name:>6}: {outcome.batches} batches, padding {outcome.padding:.1%}"]
        for priority in PRIORITIES:
            if len(outcome.latencies[priority]) > 1:
                p50, p99 = (1000 * outcome.percentile(priority, share) for share in (50, 99))
                rate = outcome.rate(priority)
                told.append(f"{priority} {rate:.0f} tokens/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        print("; ".join(told))


if __name__ == "__main__":
    main()
