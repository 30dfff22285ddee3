"""The computing thread and a device: batches that are begun before others are done; memory that is short."""

import queue
from collections.abc import Callable, Sequence

import numpy as np

from embedding_runtime.engine.backend import Float32, Tokens
from embedding_runtime.engine.device import Pending
from embedding_runtime.errors import InternalError, OutOfMemoryError
from tests.unit.runtime.fakes import COSTS, FakeBackend, tokens
from tests.unit.runtime.test_compute import LIMITS, SLOT, Answers
from tests.unit.runtime.test_compute import _computing as computing


class Ahead(FakeBackend):
    """A device: a batch is begun at once, and its rows are there when `go` is set."""

    overlaps, variant = True, ""

    def __init__(self) -> None:
        super().__init__()
        self.begun: queue.Queue[int] = queue.Queue()

    def start(self, texts: Sequence[Tokens]) -> Pending:
        self.begun.put(len(texts))
        return lambda: self.run(texts)

    def shrink(self) -> None: ...


def test_the_next_batch_is_formed_while_the_device_computes_one() -> None:
    answers, backend = Answers(), Ahead()
    with computing(backend) as compute:
        backend.go.clear()
        texts = [[n, 1] for n in range(20)]
        compute.submit(SLOT, tokens(*texts), "interactive", answers.callback("a"))
        # Two are under way before the first is done, and no third.
        assert [backend.begun.get(timeout=10), backend.begun.get(timeout=10)] == [8, 8]
        assert backend.running.wait(10)
        assert backend.begun.empty()
        assert compute.usage()[SLOT].busy
        backend.go.set()
        rows = answers.rows()
    np.testing.assert_array_equal(rows.values, [[sum(ids)] for ids in texts])


def test_what_fails_ahead_of_the_device_fails_its_requests_and_nothing_else() -> None:
    class Broken(Ahead):
        def start(self, texts: Sequence[Tokens]) -> Pending:
            if len(texts) == 3:
                raise InternalError("not bound")
            return super().start(texts)

    answers, backend = Answers(), Broken()
    with computing(backend) as compute:
        compute.submit(SLOT, tokens([1], [2], [3]), "interactive", answers.callback("unlucky"))
        assert isinstance(answers.next()[1], InternalError)
        compute.submit(SLOT, tokens([1]), "interactive", answers.callback("lucky"))
        assert answers.next()[0] == "lucky"
        compute.close(SLOT, backend.closed.set)
        assert backend.closed.wait(10)


def test_a_batch_without_memory_has_models_without_work_unloaded() -> None:
    class Full(FakeBackend):
        def run(self, texts: Sequence[Tokens]) -> Float32:
            if not other.closed.is_set():
                raise OutOfMemoryError("CUDA out of memory", retry_after=5)
            return super().run(texts)

    answers, other = Answers(), FakeBackend()
    with computing(Full()) as compute:
        compute.open(SLOT + 1, other, COSTS, LIMITS, "org/other")

        def room(told: Callable[[bool], None]) -> None:
            compute.close(SLOT + 1, lambda: None)
            told(True)

        compute.ask_for_room(room)
        compute.submit(SLOT, tokens([5]), "interactive", answers.callback("a"))
        assert answers.rows().values.tolist() == [[5.0]]
        assert other.closed.is_set()


def test_after_a_batch_had_to_be_split_the_next_ones_are_smaller() -> None:
    class Narrow(FakeBackend):
        def run(self, texts: Sequence[Tokens]) -> Float32:
            if len(texts) > 4:
                self.batches.append([])
                raise OutOfMemoryError("CUDA out of memory", retry_after=5)
            return super().run(texts)

    answers, backend = Answers(), Narrow()
    with computing(backend) as compute:
        compute.submit(SLOT, tokens(*[[1] * 8] * 24), "interactive", answers.callback("a"))
        assert len(answers.rows().values) == 24
    # Eight texts fit the limit of tokens; once they did not fit the memory, four at a time do.
    assert [len(batch) for batch in backend.batches] == [0, 4, 4, 4, 4, 4, 4]
