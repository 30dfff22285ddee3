"""The computing thread: every request is answered once, whatever happens."""

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from embedding_runtime.engine.backend import Extra
from embedding_runtime.engine.calibration import Calibration
from embedding_runtime.engine.grid import Grid
from embedding_runtime.errors import (
    InternalError,
    OverloadedError,
    RuntimeFault,
    UnloadedError,
    UnsupportedFieldError,
)
from embedding_runtime.pulse import Pulse, hung
from embedding_runtime.service.compute import Compute
from embedding_runtime.service.gauges import BatchGauges
from embedding_runtime.service.policy.admission import Bounds
from embedding_runtime.service.policy.window import Limits
from embedding_runtime.service.wire import Rows
from tests.unit.runtime.fakes import COSTS, FakeBackend, tokens

SLOT = 3
LIMITS = Limits(tokens=64, texts=8)


class Answers:
    """Collects what the computing thread says."""

    def __init__(self) -> None:
        self.results: queue.Queue[tuple[str, Rows | RuntimeFault]] = queue.Queue()

    def callback(self, name: str) -> Callable[[Rows | RuntimeFault], None]:
        return lambda result: self.results.put((name, result))

    def next(self) -> tuple[str, Rows | RuntimeFault]:
        return self.results.get(timeout=10)

    def rows(self) -> Rows:
        _, result = self.next()
        assert isinstance(result, Rows)
        return result


@contextmanager
def _computing(
    backend: FakeBackend,
    *,
    queue_tokens: int = 1000,
    pulse: Pulse | None = None,
    hang_seconds: float = 20,
    costs: Calibration = COSTS,
) -> Iterator[Compute]:
    compute = Compute(Bounds(queue_tokens, 60), pulse=pulse, hang_seconds=hang_seconds)
    compute.open(SLOT, backend, costs, LIMITS, "org/embedder")
    compute.start()
    try:
        yield compute
    finally:
        backend.go.set()
        compute.stop()
        compute.join(10)
        assert not compute.is_alive()


def test_rows_come_back_in_the_order_of_the_texts() -> None:
    answers, backend = Answers(), FakeBackend()
    with _computing(backend) as compute:
        texts = [[n] * (1 + n % 5) for n in range(40)]
        compute.submit(SLOT, tokens(*texts), "interactive", answers.callback("a"))
        rows = answers.rows()
    np.testing.assert_array_equal(rows.values, [[sum(ids)] for ids in texts])
    assert all(
        max(batch) * len(batch) <= LIMITS.tokens and len(batch) <= LIMITS.texts for batch in backend.batches
    )


def test_a_cancelled_request_costs_no_more_batches_and_gets_no_answer() -> None:
    answers, backend = Answers(), FakeBackend()
    with _computing(backend) as compute:
        backend.go.clear()
        gone = compute.submit(SLOT, tokens(*[[1, 1]] * 20), "interactive", answers.callback("gone"))
        assert backend.running.wait(10)
        compute.submit(SLOT, tokens([7]), "interactive", answers.callback("stays"))
        compute.cancel(gone)
        backend.go.set()
        assert answers.next()[0] == "stays"
    assert answers.results.empty()
    assert sum(map(len, backend.batches)) <= 9


def test_a_full_queue_refuses_whole_requests_with_a_time_to_come_back() -> None:
    answers, backend = Answers(), FakeBackend()
    with _computing(backend, queue_tokens=20) as compute:
        backend.go.clear()
        compute.submit(SLOT, tokens([1]), "interactive", answers.callback("running"))
        assert backend.running.wait(10)
        compute.submit(SLOT, tokens([1] * 15), "interactive", answers.callback("waiting"))
        with pytest.raises(OverloadedError) as caught:
            compute.submit(SLOT, tokens([1] * 6), "interactive", answers.callback("refused"))
        assert caught.value.retry_after is not None
        # One of the 15 tokens that wait has to be done before.
        assert caught.value.retry_after == pytest.approx(COSTS.share(15) / 1000 / 15)
        backend.go.set()
        assert {answers.next()[0], answers.next()[0]} == {"running", "waiting"}


def test_an_empty_queue_takes_a_request_larger_than_its_bound() -> None:
    answers = Answers()
    with _computing(FakeBackend(), queue_tokens=5) as compute:
        compute.submit(SLOT, tokens([1] * 50), "interactive", answers.callback("large"))
        assert answers.next()[0] == "large"


@pytest.mark.parametrize("failure", [InternalError("not finite"), ZeroDivisionError("bug")])
def test_a_failed_batch_fails_its_requests_and_nothing_else(failure: Exception) -> None:
    answers, backend = Answers(), FakeBackend(failure)
    with _computing(backend) as compute:
        compute.submit(SLOT, tokens(*[[1, 2, 3]] * 30), "interactive", answers.callback("unlucky"))
        name, result = answers.next()
        assert (name, type(result)) == ("unlucky", InternalError)
        backend.failure = None
        compute.submit(SLOT, tokens([4]), "interactive", answers.callback("next"))
        assert answers.next()[0] == "next"
    assert answers.results.empty()


def test_an_answer_tells_how_long_it_waited_and_computed() -> None:
    answers, backend = Answers(), FakeBackend()
    with _computing(backend) as compute:
        backend.go.clear()
        compute.submit(SLOT, tokens([1]), "interactive", answers.callback("running"))
        assert backend.running.wait(10)
        compute.submit(SLOT, tokens([2]), "interactive", answers.callback("waiting"))
        began = time.monotonic()
        while time.monotonic() - began < 0.05:
            pass
        backend.go.set()
        running, waiting = answers.rows(), answers.rows()
    assert running.queue < 0.05 <= running.compute
    assert waiting.compute < 0.05 <= waiting.queue


def test_a_model_is_busy_until_its_last_request_is_answered() -> None:
    answers, backend = Answers(), FakeBackend()
    with _computing(backend) as compute:
        before = compute.usage()[SLOT]
        assert not before.busy
        backend.go.clear()
        request = compute.submit(SLOT, tokens([1]), "interactive", answers.callback("x"))
        assert backend.running.wait(10)
        compute.cancel(request)
        assert compute.usage()[SLOT].busy
        backend.go.set()
        compute.submit(SLOT, tokens([2]), "interactive", answers.callback("y"))
        answers.next()
        after = compute.usage()[SLOT]
    assert after.last_used > before.last_used


def test_a_closed_model_is_let_go_of_between_batches_and_takes_no_more() -> None:
    answers, backend, other = Answers(), FakeBackend(), FakeBackend()
    closed: queue.Queue[str] = queue.Queue()
    with _computing(backend) as compute:
        compute.open(SLOT + 1, other, COSTS, LIMITS, "org/other")
        backend.go.clear()
        compute.submit(SLOT, tokens([1]), "interactive", answers.callback("x"))
        assert backend.running.wait(10)
        compute.close(SLOT + 1, lambda: closed.put("other"))
        assert not other.closed.is_set()
        with pytest.raises(UnloadedError):
            compute.submit(SLOT + 1, tokens([1]), "interactive", answers.callback("late"))
        backend.go.set()
        assert closed.get(timeout=10) == "other"
        assert other.closed.is_set()
        assert set(compute.usage()) == {SLOT}
        with pytest.raises(UnloadedError):
            compute.submit(SLOT + 1, tokens([1]), "interactive", answers.callback("later"))


def test_a_batch_that_does_not_end_is_seen_from_outside(tmp_path: Path) -> None:
    pulse = Pulse.create(tmp_path / "pulse")
    seen = Pulse(tmp_path / "pulse")
    answers, backend = Answers(), FakeBackend()
    with _computing(backend, pulse=pulse, hang_seconds=0.2) as compute:
        compute.submit(SLOT, tokens([1]), "interactive", answers.callback("ends"))
        answers.next()
        pulse.beat()
        assert hung(seen.read(), 0, time.monotonic(), 20) is None
        backend.go.clear()
        compute.submit(SLOT, tokens([1]), "interactive", answers.callback("hangs"))
        deadline = time.monotonic() + 10
        while (found := hung(seen.read(), 0, time.monotonic(), 20)) is None:
            assert time.monotonic() < deadline
        assert found == "a batch that does not end"


def test_a_large_batch_of_a_slow_model_gets_its_time(tmp_path: Path) -> None:
    pulse = Pulse.create(tmp_path / "pulse")
    answers, backend = Answers(), FakeBackend()
    slow = Calibration(((50, ((1, 100.0),)),), best_tokens=50)
    with _computing(backend, pulse=pulse, hang_seconds=0.2, costs=slow) as compute:
        backend.go.clear()
        compute.submit(SLOT, tokens([1] * 50), "interactive", answers.callback("slow"))
        assert backend.running.wait(10)
        # 0.1 s, twentyfold
        assert 1 < pulse.read().batch - time.monotonic() <= 2


def test_each_request_gets_what_it_asked_for_also_in_one_batch() -> None:
    answers, backend = Answers(), FakeBackend()
    with _computing(backend) as compute:
        backend.go.clear()
        compute.submit(SLOT, tokens([1]), "interactive", answers.callback("first"))
        assert backend.running.wait(10)
        asked: list[frozenset[Extra]] = [frozenset(), frozenset({"tokens"}), frozenset({"norm", "tokens"})]
        for extras in asked:
            compute.submit(SLOT, tokens([5, 6], [7, 8]), "interactive", answers.callback("x"), extras)
        backend.go.set()
        answers.rows()
        found = [answers.rows() for _ in asked]
    assert backend.batches == [[1], [2] * 6]
    for extras, rows in zip(asked, found, strict=True):
        np.testing.assert_array_equal(rows.values, [[11], [15]])
        assert set(rows.extras) == extras
        for values in rows.extras.get("tokens", ()):
            assert values.shape == (2, 1)
    assert [part.tolist() for part in found[2].extras["tokens"]] == [[[5], [6]], [[7], [8]]]
    assert [part.tolist() for part in found[2].extras["norm"]] == [[[2]], [[2]]]


def test_what_a_model_does_not_give_fails_nobody_else() -> None:
    answers, backend = Answers(), FakeBackend()
    backend.gives = frozenset({"norm"})
    with _computing(backend) as compute:
        with pytest.raises(UnsupportedFieldError, match="a vector for each token"):
            compute.submit(SLOT, tokens([1]), "interactive", answers.callback("x"), frozenset({"tokens"}))
        compute.submit(SLOT, tokens([2]), "interactive", answers.callback("y"))
        assert answers.rows().values.tolist() == [[2]]


def test_padding_to_a_backends_shapes_is_waited_for_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(BatchGauges, "ran", lambda _, texts, padding: told.append((texts, padding)))
    answers, backend = Answers(), FakeBackend()
    backend.grid = Grid(64)
    with _computing(backend) as compute:
        compute.submit(SLOT, tokens([1] * 5, [1] * 7), "interactive", answers.callback("a"))
        answers.rows()
    assert backend.batches == [[5, 7]]
    assert told == [(2, 4)]
