"""The computing thread: every request is answered once, whatever happens."""

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from embedding_runtime.engine.backend import Float32
from embedding_runtime.errors import (
    FingerprintMismatchError,
    HubUnreachableError,
    InternalError,
    LoadFailedError,
    NotReadyError,
    OverloadedError,
    RuntimeFault,
    WireError,
)
from embedding_runtime.service.compute import Compute
from embedding_runtime.service.configured import Configured
from embedding_runtime.service.loading import Loaded
from embedding_runtime.service.state import EngineState
from tests.unit.runtime.fakes import EMBEDDER, FakeBackend, card, tokens


class Answers:
    """Collects what the computing thread says."""

    def __init__(self) -> None:
        self.states: queue.Queue[EngineState] = queue.Queue()
        self.results: queue.Queue[tuple[str, Float32 | RuntimeFault]] = queue.Queue()

    def callback(self, name: str) -> Callable[[Float32 | RuntimeFault], None]:
        return lambda result: self.results.put((name, result))

    def next(self) -> tuple[str, Float32 | RuntimeFault]:
        return self.results.get(timeout=10)

    def until(self, state: str) -> EngineState:
        while (seen := self.states.get(timeout=10)).state != state:
            pass
        return seen


@contextmanager
def _computing(
    load: Callable[[Configured], Loaded], answers: Answers, *, queue_tokens: int = 1000
) -> Iterator[Compute]:
    compute = Compute([EMBEDDER], load, [8], None, queue_tokens, answers.states.put)
    compute.start()
    try:
        yield compute
    finally:
        compute.stop()
        compute.join(10)
        assert not compute.is_alive()


def _loads(backend: FakeBackend) -> Callable[[Configured], Loaded]:
    return lambda model: Loaded(backend, card(model))


def test_rows_come_back_in_the_order_of_the_texts() -> None:
    answers, backend = Answers(), FakeBackend()
    with _computing(_loads(backend), answers) as compute:
        answers.until("ready")
        texts = [[n] * (1 + n % 5) for n in range(40)]
        compute.submit(0, tokens(*texts), answers.callback("a"))
        _, rows = answers.next()
    np.testing.assert_array_equal(rows, [[sum(ids)] for ids in texts])
    assert all(
        max(batch) * len(batch) <= backend.token_budget and len(batch) <= 8 for batch in backend.batches
    )


def test_a_cancelled_request_costs_no_more_batches_and_gets_no_answer() -> None:
    answers, backend = Answers(), FakeBackend()
    with _computing(_loads(backend), answers) as compute:
        answers.until("ready")
        backend.go.clear()
        gone = compute.submit(0, tokens(*[[1, 1]] * 20), answers.callback("gone"))
        assert backend.running.wait(10)
        compute.submit(0, tokens([7]), answers.callback("stays"))
        compute.cancel(gone)
        backend.go.set()
        assert answers.next()[0] == "stays"
    assert answers.results.empty()
    assert sum(map(len, backend.batches)) <= 9


def test_a_full_queue_refuses_whole_requests_with_a_time_to_come_back() -> None:
    answers, backend = Answers(), FakeBackend()
    with _computing(_loads(backend), answers, queue_tokens=20) as compute:
        answers.until("ready")
        backend.go.clear()
        compute.submit(0, tokens([1]), answers.callback("running"))
        assert backend.running.wait(10)
        compute.submit(0, tokens([1] * 15), answers.callback("waiting"))
        with pytest.raises(OverloadedError) as caught:
            compute.submit(0, tokens([1] * 6), answers.callback("refused"))
        assert caught.value.retry_after is not None
        assert caught.value.retry_after >= 1
        backend.go.set()
        assert {answers.next()[0], answers.next()[0]} == {"running", "waiting"}


def test_an_empty_queue_takes_a_request_larger_than_its_bound() -> None:
    answers = Answers()
    with _computing(_loads(FakeBackend()), answers, queue_tokens=5) as compute:
        answers.until("ready")
        compute.submit(0, tokens([1] * 50), answers.callback("large"))
        assert answers.next()[0] == "large"


@pytest.mark.parametrize("failure", [InternalError("not finite"), ZeroDivisionError("bug")])
def test_a_failed_batch_fails_its_requests_and_nothing_else(failure: Exception) -> None:
    answers, backend = Answers(), FakeBackend(failure)
    with _computing(_loads(backend), answers) as compute:
        answers.until("ready")
        compute.submit(0, tokens(*[[1, 2, 3]] * 30), answers.callback("unlucky"))
        name, result = answers.next()
        assert (name, type(result)) == ("unlucky", InternalError)
        backend.failure = None
        compute.submit(0, tokens([4]), answers.callback("next"))
        assert answers.next()[0] == "next"
    assert answers.results.empty()


def test_a_permanent_failure_to_load_is_told_and_stays() -> None:
    answers = Answers()

    def load(_: Configured) -> Loaded:
        raise FingerprintMismatchError("expected a, found b")

    with _computing(load, answers) as compute:
        (model,) = answers.until("load_failed").models
        assert (model.reason, model.message) == ("FingerprintMismatch", "expected a, found b")
        with pytest.raises(LoadFailedError, match="expected a, found b"):
            compute.submit(0, tokens([1]), answers.callback("x"))


def test_a_bug_while_loading_is_a_failure_too() -> None:
    answers = Answers()

    def load(_: Configured) -> Loaded:
        raise ZeroDivisionError("bug")

    with _computing(load, answers):
        (model,) = answers.until("load_failed").models
        assert model.reason == "InternalError"


def test_a_transient_failure_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedding_runtime.service.compute._FIRST_RETRY_SECONDS", 0.01)
    answers, backend = Answers(), FakeBackend()
    failures = [HubUnreachableError("down"), HubUnreachableError("still down")]

    def load(model: Configured) -> Loaded:
        if failures:
            raise failures.pop(0)
        return Loaded(backend, card(model))

    with _computing(load, answers):
        (model,) = answers.until("loading").models
        assert (model.reason, model.message) == ("HubUnreachable", "down")
        answers.until("ready")


def test_before_it_is_loaded_a_model_is_not_ready() -> None:
    answers = Answers()
    compute = Compute([EMBEDDER], _loads(FakeBackend()), [8], None, 10, answers.states.put)
    with pytest.raises(NotReadyError, match="still loading"):
        compute.submit(0, tokens([1]), answers.callback("x"))
    with pytest.raises(WireError):
        compute.submit(1, tokens([1]), answers.callback("x"))
