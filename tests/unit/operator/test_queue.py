"""The work queue: its rules without time, and its workers."""

import asyncio
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from embedding_operator.queue import AFTER_EVENT, LONGEST_BACKOFF, Schedule, WorkQueue


@dataclass
class Done:
    look_again: float | None = None
    gone: bool = False


def schedule() -> Schedule[str]:
    return Schedule(resync=300)


def key(queue: Schedule[str], now: float) -> str | None:
    task = queue.take(now)
    return task.key if task else None


def test_keys_come_in_the_order_of_arrival_and_once() -> None:
    queue = schedule()
    for name in ("a", "b", "a"):
        queue.add(name, 0)
    assert [key(queue, 0), key(queue, 0), key(queue, 0)] == ["a", "b", None]


def test_a_key_is_never_worked_on_twice_at_a_time_and_what_came_meanwhile_is_done_after() -> None:
    queue = schedule()
    queue.add("a", 0)
    assert key(queue, 0) == "a"
    queue.add("a", 1)
    queue.add("a", 2)
    assert key(queue, 2) is None
    queue.done("a", 3, look_again=None)
    assert key(queue, 3) == "a"
    queue.done("a", 4, look_again=None)
    assert key(queue, 4) is None


def test_failures_wait_exponentially_longer_and_success_forgives() -> None:
    queue = schedule()
    now, waits = 0.0, []
    queue.add("a", now)
    for _ in range(9):
        assert key(queue, now) == "a"
        waits.append(queue.failed("a", now))
        assert key(queue, now + waits[-1] - 0.1) is None
        now += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 32, 64, LONGEST_BACKOFF, LONGEST_BACKOFF]
    assert key(queue, now) == "a"
    queue.done("a", now, look_again=None)
    queue.add("a", now)
    key(queue, now)
    assert queue.failed("a", now) == 1


def test_an_event_during_a_failure_shortens_the_wait() -> None:
    queue = schedule()
    for _ in range(7):
        queue.add("a", 0)
        key(queue, 0)
        queue.failed("a", 0)
    queue.add("a", 0)
    key(queue, 0)
    queue.add("a", 0)
    queue.failed("a", 0)
    assert key(queue, AFTER_EVENT - 0.1) is None
    assert key(queue, AFTER_EVENT) == "a"


def test_a_failing_key_does_not_hold_up_the_others() -> None:
    queue = schedule()
    queue.add("bad", 0)
    key(queue, 0)
    queue.failed("bad", 0)
    queue.add("good", 0)
    assert key(queue, 0) == "good"


def test_a_key_comes_back_when_it_asked_to() -> None:
    queue = schedule()
    queue.add("a", 0)
    key(queue, 0)
    queue.done("a", 0, look_again=5)
    assert queue.next_due() == 5
    assert key(queue, 4.9) is None
    task = queue.take(5)
    assert task is not None
    assert not task.fresh


def test_every_key_comes_back_at_the_resync_and_asks_for_a_fresh_look() -> None:
    queue = schedule()
    queue.add("a", 0)
    key(queue, 0)
    queue.done("a", 0, look_again=None)
    task = queue.take(300)
    assert task is not None
    assert task.fresh


def test_a_key_that_keeps_asking_for_another_look_is_looked_at_afresh_at_the_resync_all_the_same() -> None:
    queue = schedule()
    queue.add("a", 0)
    looks: list[tuple[float, bool]] = []
    for now in range(0, 700, 10):
        while (task := queue.take(now)) is not None:
            looks.append((now, task.fresh))
            queue.done("a", now, look_again=70)
    assert [now for now, fresh in looks if fresh] == [300, 600]
    assert [now for now, _ in looks[:6]] == [0, 70, 140, 210, 280, 300]


def test_a_fresh_look_that_failed_is_owed_still() -> None:
    queue = schedule()
    queue.add("a", 0, fresh=True)
    for now in (0, 1, 3):
        task = queue.take(now)
        assert task is not None
        assert task.fresh
        queue.failed("a", now)


def test_a_key_that_is_gone_does_not_come_back() -> None:
    queue = schedule()
    queue.add("a", 0)
    key(queue, 0)
    queue.gone("a", 0)
    assert queue.next_due() is None
    assert key(queue, 1000) is None


def test_the_wait_of_the_oldest_key_is_known() -> None:
    queue = schedule()
    queue.add("a", 3)
    queue.add("b", 5)
    assert (queue.oldest(10), queue.depth()) == (7, 2)


class Machine(RuleBasedStateMachine):
    """Whatever happens: one worker per key, and nothing that was asked for is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = schedule()
        self.now = 0.0
        self.busy: set[str] = set()
        self.owed: set[str] = set()

    @rule(name=st.sampled_from("abc"))
    def add(self, name: str) -> None:
        self.queue.add(name, self.now)
        self.owed.add(name)

    @rule()
    def take(self) -> None:
        name = key(self.queue, self.now)
        if name is not None:
            assert name not in self.busy
            self.busy.add(name)
            self.owed.discard(name)

    @rule(name=st.sampled_from("abc"), look_again=st.none() | st.floats(0.1, 400))
    def done(self, name: str, look_again: float | None) -> None:
        if name in self.busy:
            self.busy.remove(name)
            self.queue.done(name, self.now, look_again=look_again)

    @rule(name=st.sampled_from("abc"))
    def failed(self, name: str) -> None:
        if name in self.busy:
            self.busy.remove(name)
            self.queue.failed(name, self.now)
            self.owed.add(name)

    @rule(name=st.sampled_from("abc"))
    def gone(self, name: str) -> None:
        if name in self.busy:
            self.busy.remove(name)
            self.queue.gone(name, self.now)

    @rule(seconds=st.floats(0, 200))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def what_is_owed_is_ready_due_or_asked_for_again(self) -> None:
        due = self.queue._due.keys() | self.queue._ready.keys() | self.queue._again.keys()
        assert self.owed <= due


TestSchedule = Machine.TestCase


@given(st.lists(st.sampled_from("abc")))
def test_as_many_keys_come_out_as_different_ones_went_in(names: list[str]) -> None:
    queue = schedule()
    for name in names:
        queue.add(name, 0)
    found = []
    while (name_ := key(queue, 0)) is not None:
        found.append(name_)
    assert found == list(dict.fromkeys(names))


# --- the workers


class Work:
    """Counts what runs; holds every call until it is let go."""

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self.most = 0
        self.calls: list[tuple[str, bool]] = []
        self.gate = asyncio.Event()
        self.fail: set[str] = set()

    async def __call__(self, name: str, fresh: bool) -> Done:
        self.calls.append((name, fresh))
        self.running[name] += 1
        self.most = max(self.most, self.running.total())
        try:
            await self.gate.wait()
            if name in self.fail:
                raise RuntimeError("broken")
            return Done(gone=name == "gone")
        finally:
            self.running[name] -= 1


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.filterwarnings("default")
def test_workers_are_bounded_and_survive_what_the_work_raises() -> None:
    async def run() -> None:
        work = Work()
        now = [0.0]
        queue: WorkQueue[str] = WorkQueue(
            work, workers=2, resync=300, clock=lambda: now[0], jitter=lambda s: s
        )
        task = asyncio.create_task(queue.run())
        for name in ("a", "b", "c", "a"):
            queue.add(name)
        await turns()
        assert [name for name, _ in work.calls] == ["a", "b"]
        work.fail = {"a"}
        work.gate.set()
        await turns()
        assert Counter(name for name, _ in work.calls) == {"a": 1, "b": 1, "c": 1}
        assert work.most == 2
        work.fail = set()
        now[0] = 1.0
        queue.add("b")
        await turns()
        assert Counter(name for name, _ in work.calls) == {"a": 2, "b": 2, "c": 1}
        assert queue.oldest() == 0
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_a_worker_wakes_by_itself_when_a_key_is_due() -> None:
    async def run() -> None:
        calls = asyncio.Queue[str]()

        async def work(name: str, fresh: bool) -> Done:
            calls.put_nowait(name)
            return Done(look_again=0.01)

        queue: WorkQueue[str] = WorkQueue(
            work, workers=1, resync=300, clock=asyncio.get_running_loop().time, jitter=lambda s: s
        )
        task = asyncio.create_task(queue.run())
        queue.add("a")
        for _ in range(3):
            assert await asyncio.wait_for(calls.get(), 10) == "a"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
