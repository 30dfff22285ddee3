"""What a batch costs on this machine: a table, measured once after the warm-up. The table itself is pure.

It holds what batches take by themselves; what neighbours on the machine add is a factor that the policy
learns.
"""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from embedding_runtime.engine.arithmetic import arithmetic
from embedding_runtime.engine.backend import Backend, Tokens
from embedding_runtime.errors import OutOfMemoryError

# (texts, milliseconds), by rising number of texts, the first with one.
Curve = tuple[tuple[int, float], ...]

# Each length is so many times the one before: between two of them the cost is close to a line.
_SHORTEST, _LENGTH_STEP = 16, 4
# Batch sizes, and backends, are compared by texts of about this length: most texts are near it.
_USUAL_LENGTH = 64
# On CPUs the best batch stays in the cache, and a larger one costs memory that nobody has counted on.
_MOST_TOKENS, _MOST_ON_GPU = 2048, 65_536
# A batch twice as large has to be so much faster by the token to be worth its latency and memory.
_WORTH = 1.03
_ROUNDS_WITHOUT_GAIN = 2
_REPEATS = 2
# Readiness waits for it, and so do the other models of the server, which share the processor.
_SECONDS = 1.0
# Where the time ended before the rate stopped rising: docs/performance.md, "Raw engine".
_UNKNOWN_TOKENS = 1024


@dataclass(frozen=True)
class Calibration:
    """`curves`: for each measured length in tokens, by rising length, what so many texts of it take.

    `best_tokens`: the padded tokens of the smallest batch with the best tokens per second.
    """

    curves: tuple[tuple[int, Curve], ...]
    best_tokens: int
    _known: dict[int, Curve] = field(default_factory=dict, init=False, repr=False, compare=False)

    def milliseconds(self, texts: int, length: int) -> float:
        """What a batch of so many texts, padded to `length` tokens, takes.

        Linear between what was measured. Beyond it, in proportion to texts and to tokens: at least so much.
        """
        curve = self._known.get(length)
        if curve is None:
            curve = self._known[length] = self._curve(length)
        return _along(curve, texts)

    def share(self, length: int) -> float:
        """The milliseconds of one text of so many tokens, in a batch of `best_tokens` of its like."""
        texts = max(1, self.best_tokens // length)
        return self.milliseconds(texts, length) / texts

    def slowness(self) -> float:
        """What backends are compared by: the geometric mean of a usual text's milliseconds, alone and in a
        full batch of its like. So twice as fast at either is worth as much.
        """
        return math.sqrt(self.milliseconds(1, _USUAL_LENGTH) * self.share(_USUAL_LENGTH))

    def _curve(self, length: int) -> Curve:
        """The curve of a length, from those of its neighbours."""
        at = bisect_left(self.curves, length, key=lambda entry: entry[0])
        if at == 0:
            return self.curves[0][1]
        below, lower = self.curves[at - 1]
        if at == len(self.curves):
            return tuple((texts, ms * length / below) for texts, ms in lower)
        above, upper = self.curves[at]
        weight = (length - below) / (above - below)
        return tuple(
            (texts, _along(lower, texts) * (1 - weight) + _along(upper, texts) * weight)
            for texts in sorted({texts for curve in (lower, upper) for texts, _ in curve})
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"curves": self.curves, "best_tokens": self.best_tokens}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises KeyError, TypeError, ValueError for anything else.
        """
        curves = tuple(
            (int(length), tuple((int(texts), float(ms)) for texts, ms in curve))
            for length, curve in values["curves"]
        )
        if not curves or not all(curve and curve[0][0] == 1 for _, curve in curves):
            raise ValueError("a table without a batch of one text")
        return cls(curves, int(values["best_tokens"]))


def calibrate(
    backend: Backend,
    longest: int,
    *,
    seconds: float = _SECONDS,
    clock: Callable[[], float],
    most: int | None = None,
) -> Calibration:
    """Measure a loaded and warmed up backend with texts of up to `longest` tokens, by `clock` (`clock_of`).

    Rounds of batches, each with twice the padded tokens of the one before, in every length that fits; until
    larger batches are no faster by the token, have more padded tokens than `most`, where it is given, or the
    next round would not end within `seconds`. Where
    arithmetic describes what was found, its figures count. Raises InternalError, OutOfMemoryError as `run`
    does, the latter only when a single text is too much.
    """
    measured: dict[tuple[int, int], float] = {}
    lengths = list(_lengths(longest))
    usual = min(lengths, key=lambda length: abs(length - _USUAL_LENGTH))
    began, rates, peaked = clock(), list[tuple[int, float]](), False
    usually = _MOST_ON_GPU if backend.provider == "cuda" else _MOST_TOKENS
    for tokens in _rounds(lengths, min(most or usually, usually)):
        started = clock()
        try:
            for length in lengths:
                if length <= tokens:
                    texts = tokens // length
                    measured[length, texts] = _fastest(backend, texts, length, clock)
        except OutOfMemoryError:
            if not measured:
                raise
            peaked = True
            break
        now = clock()
        if usual <= tokens:
            texts = tokens // usual
            rates.append((tokens, texts * usual / measured[usual, texts]))
            peaked = _peaked(rates)
        if peaked or now - began + 2 * (now - started) > seconds:
            break
    costs = arithmetic(measured)
    rates = [(tokens, tokens // usual * usual / costs[usual, tokens // usual]) for tokens, _ in rates]
    best = _best(rates, peaked=peaked)
    return Calibration(_curves(costs), min(best, most or best))


def clock_of(provider: str, threads: int) -> Callable[[], float]:
    """Seconds in which the provider computes.

    On a CPU this process's own time, spread over its threads: on a machine that others use as well, as when
    all pods of a node start at once, wall-clock time made batches of two texts look twice as dear as two.
    """
    if provider == "cuda":
        return time.perf_counter
    return lambda: time.process_time() / threads


def _lengths(longest: int) -> Iterator[int]:
    """The lengths to measure: some between the shortest and the longest."""
    length = _SHORTEST
    while length < longest:
        yield length
        length *= _LENGTH_STEP
    yield longest


def _rounds(lengths: Sequence[int], most: int) -> Iterator[int]:
    tokens = lengths[0]
    while tokens <= max(most, lengths[-1]):
        yield tokens
        tokens *= 2


def _fastest(backend: Backend, texts: int, length: int, clock: Callable[[], float]) -> float:
    """Milliseconds of the fastest of some runs: whatever disturbs one makes it slower, never faster."""
    batch = [Tokens(np.ones(length, dtype=np.int32))] * texts
    taken = []
    for _ in range(_REPEATS):
        started = clock()
        backend.run(batch)
        taken.append(1000 * (clock() - started))
    return min(taken)


def _peaked(rates: Sequence[tuple[int, float]]) -> bool:
    """Whether the last rounds have brought nothing over the best before them."""
    before, after = rates[:-_ROUNDS_WITHOUT_GAIN], rates[-_ROUNDS_WITHOUT_GAIN:]
    return bool(before) and max(rate for _, rate in after) < _WORTH * max(rate for _, rate in before)


def _best(rates: Sequence[tuple[int, float]], *, peaked: bool) -> int:
    """The smallest batch that is almost as fast as the fastest."""
    if not rates:
        return _UNKNOWN_TOKENS
    fastest = max(rate for _, rate in rates)
    best = next(tokens for tokens, rate in rates if _WORTH * rate >= fastest)
    rising = not peaked and best == rates[-1][0]
    return max(best, _UNKNOWN_TOKENS) if rising else best


def _curves(measured: Mapping[tuple[int, int], float]) -> tuple[tuple[int, Curve], ...]:
    """The table: no batch may take longer than one with as many or more, as long or longer texts."""
    smooth = {
        (length, texts): min(
            ms for (other, more), ms in measured.items() if other >= length and more >= texts
        )
        for length, texts in measured
    }
    lengths = sorted({length for length, _ in smooth})
    return tuple(
        (length, tuple(sorted((texts, ms) for (other, texts), ms in smooth.items() if other == length)))
        for length in lengths
    )


def _along(curve: Curve, texts: int) -> float:
    at = bisect_left(curve, texts, key=lambda point: point[0])
    if at == len(curve):
        most, ms = curve[-1]
        return ms * texts / most
    more, above = curve[at]
    if more == texts:
        return above
    fewer, below = curve[at - 1]
    return below + (above - below) * (texts - fewer) / (more - fewer)
