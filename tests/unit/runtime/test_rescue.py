"""Batches that find no memory: what is tried, in which order, and that everything is answered."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from embedding_runtime.engine.backend import Float32, Tokens
from embedding_runtime.engine.device import OnDevice
from embedding_runtime.engine.providers import CUDA, out_of_memory
from embedding_runtime.errors import OutOfMemoryError
from embedding_runtime.service.policy.ladder import next_rung
from embedding_runtime.service.rescue import rescued
from tests.unit.runtime.fakes import FakeBackend, tokens

# As ONNX Runtime's arena and CUDA say it.
TOLD = (
    "Non-zero status code returned while running Attention node. Name:'Attention_0' Status Message: "
    "BFCArena::AllocateRawInternal Available memory of 1048576 is smaller than requested bytes of 8388608",
    "CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p, size);",
    "Failed to allocate memory for requested buffer of size 8388608",
)


class Small(FakeBackend):
    """A device with room for so many texts at once; more after it was shrunk, or after others made room."""

    overlaps, variant = False, ""

    def __init__(self, room: int, told: str = TOLD[0], shrinking: int = 0) -> None:
        super().__init__()
        self.room, self.told, self.shrinking = room, told, shrinking
        self.shrunk = 0
        self.narrowed: list[int] = []

    def start(self, texts: Sequence[Tokens]) -> None:
        raise AssertionError(texts)

    def shrink(self) -> None:
        self.shrunk += 1
        self.room += self.shrinking

    def run(self, texts: Sequence[Tokens]) -> Float32:
        if len(texts) > self.room:
            raise OutOfMemoryError(out_of_memory(self.told, CUDA) or "", retry_after=5)
        return super().run(texts)


def _rows(backend: Small, count: int, *, others: int = 0) -> tuple[Float32, list[bool]]:
    """The rows of a batch; `others`: texts for which an idle model's memory would do."""
    asked: list[bool] = []

    def make_room() -> bool:
        asked.append(bool(others))
        backend.room += others
        return bool(others)

    texts = tokens(*[[n, 1] for n in range(count)])
    run = partial(backend.run_with, extras=())
    found = rescued(partial(run, texts), run, backend, texts, make_room, backend.narrowed.append)
    return found.rows, asked


def test_rungs_come_in_their_order_and_end() -> None:
    assert next_rung(set(), 8) == "shrink"
    assert next_rung({"shrink"}, 8) == "unload"
    assert next_rung({"shrink", "unload"}, 8) == "split"
    assert next_rung({"shrink", "unload"}, 1) == "refuse"


def test_a_batch_that_fits_runs_once() -> None:
    backend = Small(room=8)
    rows, asked = _rows(backend, 8)
    assert rows[:, 0].tolist() == [n + 1 for n in range(8)]
    assert (backend.shrunk, asked, backend.batches) == (0, [], [[2] * 8])


def test_memory_that_is_held_for_nothing_is_given_back_first() -> None:
    backend = Small(room=2, shrinking=10)
    _, asked = _rows(backend, 8)
    assert (backend.shrunk, asked, backend.batches) == (1, [], [[2] * 8])


def test_models_without_work_make_room_before_a_batch_is_split() -> None:
    backend = Small(room=2)
    _, asked = _rows(backend, 8, others=10)
    assert (backend.shrunk, asked, backend.batches) == (1, [True], [[2] * 8])


@pytest.mark.parametrize("told", TOLD)
def test_a_batch_is_split_until_it_fits_and_its_rows_keep_their_order(told: str) -> None:
    backend = Small(room=3, told=told)
    rows, asked = _rows(backend, 10)
    assert rows[:, 0].tolist() == [n + 1 for n in range(10)]
    assert max(map(len, backend.batches)) <= 3
    # Once for the batch, not for each of its parts.
    assert (backend.shrunk, asked) == (1, [False])
    # Ten texts of two tokens, five, and two of the three that are left of them.
    assert min(backend.narrowed) == 2 * 2


def test_a_single_text_without_room_is_refused_for_now_and_the_next_batch_runs() -> None:
    backend = Small(room=0)
    with pytest.raises(OutOfMemoryError, match="CUDA out of memory") as caught:
        _rows(backend, 4)
    assert caught.value.retry_after == 5
    backend.room = 8
    assert len(_rows(backend, 4)[0]) == 4


def test_other_failures_are_not_tried_again() -> None:
    backend = FakeBackend(ZeroDivisionError())
    run = partial(backend.run_with, extras=())
    with pytest.raises(ZeroDivisionError):
        rescued(partial(run, tokens([1])), run, backend, tokens([1]), lambda: True, print)
    assert len(backend.batches) == 1


def test_on_a_cpu_a_batch_is_split_too() -> None:
    class Narrow(FakeBackend):
        def run(self, texts: Sequence[Tokens]) -> Float32:
            if len(texts) > 1:
                raise OutOfMemoryError("std::bad_alloc", retry_after=5)
            return super().run(texts)

    backend, texts = Narrow(), tokens([1], [2], [3])
    assert not isinstance(backend, OnDevice)
    run = partial(backend.run_with, extras=["tokens"])
    found = rescued(partial(run, texts), run, backend, texts, lambda: False, print)
    np.testing.assert_array_equal(found.rows[:, 0], [1, 2, 3])
    assert [part.tolist() for part in found.extras["tokens"]] == [[[1]], [[2]], [[3]]]
