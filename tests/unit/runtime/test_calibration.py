"""The table of what batches cost: what was measured, what lies between, and when measuring ends."""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_runtime.engine.backend import Float32, Tokens
from embedding_runtime.engine.calibration import Calibration, calibrate, clock_of
from embedding_runtime.errors import OutOfMemoryError
from tests.unit.runtime.fakes import FakeBackend

Cost = Callable[[int, int], float]


class Machine(FakeBackend):
    """Batches that take what `cost` says, in milliseconds, on a clock of its own."""

    def __init__(self, cost: Cost, room: float = math.inf, provider: str = "cpu") -> None:
        super().__init__()
        self.cost, self.room, self.now, self.provider = cost, room, 0.0, provider

    def run(self, texts: Sequence[Tokens]) -> Float32:
        count, length = len(texts), max(map(len, texts))
        self.batches.append([len(text) for text in texts])
        if count * length > self.room:
            raise OutOfMemoryError("no room", retry_after=5)
        self.now += self.cost(count, length) / 1000
        return np.zeros((count, 1), dtype=np.float32)

    def measured(self, longest: int, seconds: float = 1e6, most: int | None = None) -> Calibration:
        return calibrate(self, longest, seconds=seconds, clock=lambda: self.now, most=most)


def _cpu(texts: int, length: int) -> float:
    """Saturated by some hundred tokens; out of the cache beyond two thousand."""
    tokens = texts * length
    return 2 + 0.1 * tokens * (1.3 if tokens > 2048 else 1)


def _gpu(texts: int, length: int) -> float:
    return max(2.0, 0.001 * texts * length)


def test_what_was_measured_is_told_and_what_lies_between_is_near() -> None:
    found = Machine(_cpu).measured(256)
    for texts, length in ((1, 16), (4, 64), (2, 256), (3, 64), (5, 100), (1, 200), (9, 40)):
        assert found.milliseconds(texts, length) == pytest.approx(_cpu(texts, length), rel=0.05)


@pytest.mark.parametrize(
    ("cost", "provider", "least", "most"), [(_cpu, "cpu", 256, 1024), (_gpu, "cuda", 2048, 4096)]
)
def test_the_best_batch_is_the_smallest_that_is_about_the_fastest(
    cost: Cost, provider: str, least: int, most: int
) -> None:
    assert least <= Machine(cost, provider=provider).measured(512).best_tokens <= most


def test_on_a_cpu_no_batch_takes_more_memory_than_is_counted_on() -> None:
    machine = Machine(lambda texts, length: 1 + 0.0001 * texts * length)
    assert machine.measured(256).best_tokens == 2048
    assert max(max(batch) * len(batch) for batch in machine.batches) == 2048


def test_a_model_that_takes_much_memory_for_each_token_has_smaller_batches() -> None:
    machine = Machine(lambda texts, length: 1 + 0.001 * texts * length)
    assert machine.measured(512, most=1024).best_tokens == 1024
    assert max(len(batch) * max(batch) for batch in machine.batches) == 1024


def test_measuring_ends_when_larger_batches_are_no_faster() -> None:
    machine = Machine(lambda texts, length: 0.5 + 0.1 * texts * length)
    machine.measured(256)
    assert max(max(batch) * len(batch) for batch in machine.batches) <= 1024


@pytest.mark.parametrize("slowness", [1, 10, 100])
def test_measuring_ends_in_time_on_a_slow_machine(slowness: int) -> None:
    machine = Machine(lambda texts, length: slowness * _cpu(texts, length))
    found = machine.measured(8192, seconds=1.0)
    longest_round = 2 * slowness * _cpu(1, 16) / 1000
    assert machine.now <= 1.0 + longest_round
    assert found.milliseconds(1, 8192) >= found.milliseconds(1, 16)


def test_a_peak_that_was_not_reached_in_time_is_taken_for_the_usual_one() -> None:
    assert (
        Machine(lambda texts, length: 10 * _cpu(texts, length)).measured(256, seconds=1.0).best_tokens == 1024
    )


def test_a_device_without_room_for_more_ends_the_measuring() -> None:
    found = Machine(_gpu, room=1000, provider="cuda").measured(512)
    assert found.best_tokens <= 1000


def test_a_device_without_room_for_one_text_is_an_error() -> None:
    with pytest.raises(OutOfMemoryError):
        Machine(_gpu, room=1).measured(512)


@given(st.floats(0, 5), st.floats(0.001, 1), st.integers(1, 300), st.integers(1, 600), st.integers(2, 600))
def test_more_texts_and_longer_ones_never_take_less(
    overhead: float, token: float, texts: int, length: int, longest: int
) -> None:
    found = Machine(lambda texts, length: overhead + token * texts * length).measured(longest, seconds=60)
    took = found.milliseconds(texts, length)
    assert took >= 0
    assert found.milliseconds(texts + 1, length) >= took * (1 - 1e-9)
    assert found.milliseconds(texts, length + 1) >= took * (1 - 1e-9)


def test_a_run_that_was_disturbed_does_not_count() -> None:
    disturbed = iter([50.0] + [0.0] * 1000)
    machine = Machine(lambda texts, length: _cpu(texts, length) + next(disturbed))
    assert machine.measured(256).milliseconds(1, 16) == pytest.approx(_cpu(1, 16))


def test_a_neighbour_on_the_machine_does_not_count_on_a_cpu() -> None:
    clock, wall = clock_of("cpu", 2), time.perf_counter()
    began = clock()
    while clock() - began < 0.01:
        pass
    # One thread was busy for 0.02 s at least: half of what two could have done.
    assert time.perf_counter() - wall >= 0.019
    waited = clock()
    time.sleep(0.05)
    assert clock() - waited < 0.02


def test_a_table_survives_json_and_a_broken_one_is_refused() -> None:
    found = Machine(_cpu).measured(256)
    assert Calibration.from_json(found.to_json()) == found
    for broken in ({}, {"curves": [], "best_tokens": 1}, {"curves": [[16, [[2, 1.0]]]], "best_tokens": 1}):
        with pytest.raises((KeyError, ValueError)):
            Calibration.from_json(broken)


def test_a_backend_is_judged_by_one_text_as_much_as_by_full_batches() -> None:
    def costs(alone: float, batched: float) -> Calibration:
        return Calibration(((64, ((1, alone), (16, 16 * batched))),), best_tokens=1024)

    assert costs(4, 2).slowness() == pytest.approx(costs(2, 4).slowness())
    assert costs(12, 4).slowness() > costs(7, 6).slowness() > costs(12, 2).slowness()
