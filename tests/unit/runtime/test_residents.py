"""The engine's models: one load for many, room made and given back, failures remembered."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue

import numpy as np

from embedding_runtime.engine.backend import Float32
from embedding_runtime.errors import (
    HubUnreachableError,
    ModelNotFoundError,
    OutOfMemoryError,
    OverloadedError,
    RuntimeFault,
)
from embedding_runtime.model.source import ModelSource
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.service.compute import Compute
from embedding_runtime.service.loader import Loader
from embedding_runtime.service.loading import Loaded
from embedding_runtime.service.policy.admission import Bounds
from embedding_runtime.service.residents import Policy, Residents
from embedding_runtime.service.state import EngineState, State
from tests.unit.runtime.fakes import COSTS, EMBEDDER, FakeBackend, card, source, tokens

A, B, C = (Wanted(f"org/{name}") for name in "abc")
SIZE = 100


@dataclass
class FakeLoading:
    """Models of SIZE bytes on disk, `held` in memory; fails, or waits, as it is told."""

    failures: dict[Wanted, list[Exception]] = field(default_factory=dict)
    build_failures: list[Exception] = field(default_factory=list)
    fetched: list[Wanted] = field(default_factory=list)
    built: list[Wanted] = field(default_factory=list)
    backends: dict[Wanted, FakeBackend] = field(default_factory=dict)
    go: threading.Event = field(default_factory=threading.Event)
    held: int = SIZE

    def fetch(self, wanted: Wanted) -> ModelSource:
        self.fetched.append(wanted)
        assert self.go.wait(10)
        if self.failures.get(wanted):
            raise self.failures[wanted].pop(0)
        return source(wanted, SIZE)

    def build(self, wanted: Wanted, _: ModelSource) -> Loaded:
        if self.build_failures:
            raise self.build_failures.pop(0)
        self.built.append(wanted)
        self.backends[wanted] = FakeBackend()
        return Loaded(self.backends[wanted], replace(card(wanted), memory_bytes=self.held), COSTS, 0.1)


class World:
    """The engine's models, with this thread as its event loop."""

    def __init__(self, loading: FakeLoading, defaults: list[Wanted], policy: Policy) -> None:
        self.loading = loading
        self.calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.published: list[EngineState] = []
        self.compute = Compute(Bounds(10_000, 60))
        self.residents = Residents(
            defaults, [], Loader(loading), self.compute, policy, self.published.append, self.calls.put
        )

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            try:
                self.calls.get(timeout=0.01)()
            except Empty:
                continue

    def ask(self, wanted: Wanted) -> list[int | RuntimeFault]:
        """Ask for a model; what comes of it will be in the list."""
        answers: list[int | RuntimeFault] = []
        self.residents.want(wanted, answers.append)
        return answers

    def get(self, wanted: Wanted) -> int | RuntimeFault:
        answers = self.ask(wanted)
        self.until(lambda: bool(answers))
        return answers[0]

    def slot(self, wanted: Wanted) -> int:
        answer = self.get(wanted)
        assert isinstance(answer, int)
        return answer

    def states(self) -> dict[str, State]:
        return {model.name: model.state for model in self.residents.state.models}

    def run(self, slot: int, number: int) -> Float32:
        """Have a model answer."""
        answers: SimpleQueue[object] = SimpleQueue()
        self.compute.submit(slot, tokens([number]), "interactive", answers.put)
        answer = answers.get(timeout=10)
        rows: Float32 = answer.values  # type: ignore[attr-defined]
        return rows


@contextmanager
def _world(
    *defaults: Wanted,
    loading: FakeLoading | None = None,
    budget: int | None = None,
    idle_seconds: float | None = None,
) -> Iterator[World]:
    loading = loading or FakeLoading()
    loading.go.set()
    policy = Policy({"embed": 8, "rerank": 8}, None, budget, idle_seconds)
    world = World(loading, list(defaults), policy)
    world.compute.start()
    world.residents.start()
    world.until(lambda: all(state != "loading" for state in world.states().values()))
    try:
        yield world
    finally:
        loading.go.set()
        for backend in loading.backends.values():
            backend.go.set()
        world.compute.stop()
        world.compute.join(10)
        assert not world.compute.is_alive()


def test_a_default_model_is_loaded_at_start() -> None:
    with _world(EMBEDDER) as world:
        (model,) = world.residents.state.models
        assert (model.wanted, model.state, model.default) == (EMBEDDER, "ready", True)
        np.testing.assert_array_equal(world.run(model.slot, 7), [[7]])
    assert [state.models[0].state for state in world.published] == ["loading", "ready"]


def test_many_who_ask_at_once_get_one_load() -> None:
    with _world() as world:
        world.loading.go.clear()
        answers = [world.ask(A) for _ in range(20)]
        assert world.states() == {"org/a": "loading"}
        world.loading.go.set()
        world.until(lambda: all(answers))
        assert len({each[0] for each in answers}) == 1
        assert (world.loading.fetched, world.loading.built) == ([A], [A])


def test_a_model_that_is_being_fetched_holds_up_no_other() -> None:
    with _world(EMBEDDER) as world:
        world.loading.go.clear()
        waiting = world.ask(A)
        world.until(lambda: world.loading.fetched[-1] == A)
        np.testing.assert_array_equal(world.run(world.slot(EMBEDDER), 3), [[3]])
        assert not waiting


def test_the_least_recently_used_makes_room_and_gives_its_memory_back_first() -> None:
    with _world(EMBEDDER, budget=3 * SIZE) as world:
        first, second = world.slot(A), world.slot(B)
        world.run(first, 1)
        third = world.slot(C)
        assert world.states() == {"org/embedder": "ready", "org/a": "ready", "org/c": "ready"}
        assert world.loading.backends[B].closed.is_set()
        assert len({first, second, third}) == 3
        # The one that went comes back when it is asked for, in a slot of its own.
        assert world.slot(B) not in {first, second, third}
        assert "org/a" not in world.states()


def test_a_default_model_stays_and_what_finds_no_room_is_exhausted() -> None:
    with _world(EMBEDDER, budget=SIZE) as world:
        answer = world.get(A)
        assert isinstance(answer, OutOfMemoryError)
        assert "MODEL_MEMORY_BUDGET_BYTES" in answer.message
        assert answer.retry_after is not None
        assert world.states() == {"org/embedder": "ready", "org/a": "exhausted"}
        assert world.loading.built == [EMBEDDER]


def test_a_model_with_work_is_never_unloaded() -> None:
    with _world(budget=SIZE) as world:
        slot = world.slot(A)
        backend = world.loading.backends[A]
        backend.go.clear()
        answers: SimpleQueue[object] = SimpleQueue()
        world.compute.submit(slot, tokens([5]), "interactive", answers.put)
        assert backend.running.wait(10)
        assert isinstance(world.get(B), OutOfMemoryError)
        backend.go.set()
        assert answers.get(timeout=10).values == [[5]]  # type: ignore[attr-defined]


def test_models_that_turn_out_larger_than_their_files_make_room_afterwards() -> None:
    with _world(budget=3 * SIZE, loading=FakeLoading(held=2 * SIZE)) as world:
        world.slot(A)
        world.slot(B)
        assert world.states() == {"org/b": "ready"}


def test_what_is_not_used_is_unloaded_and_default_models_stay() -> None:
    with _world(EMBEDDER, idle_seconds=0.05) as world:
        slot = world.slot(A)
        world.run(slot, 1)

        def gone() -> bool:
            world.residents.tick()
            return "org/a" not in world.states()

        world.until(gone)
        assert world.loading.backends[A].closed.wait(10)
        assert world.states() == {"org/embedder": "ready"}


def test_a_full_device_makes_the_least_recently_used_go() -> None:
    with _world(EMBEDDER) as world:
        world.slot(A)
        world.slot(B)
        world.loading.build_failures = [OutOfMemoryError("CUDA out of memory")] * 2
        assert isinstance(world.get(C), int)
        assert world.states() == {"org/embedder": "ready", "org/c": "ready"}
        world.loading.build_failures = [OutOfMemoryError("CUDA out of memory")] * 2
        assert isinstance(world.get(A), OutOfMemoryError)
        assert world.states() == {"org/embedder": "ready", "org/a": "exhausted"}


def test_a_permanent_failure_is_remembered() -> None:
    with _world(loading=FakeLoading(failures={A: [ModelNotFoundError("gone")]})) as world:
        for _ in range(3):
            answer = world.get(A)
            assert isinstance(answer, ModelNotFoundError)
        assert world.loading.fetched == [A]
        (model,) = world.residents.state.models
        assert (model.state, model.reason, model.permanent) == ("load_failed", "ModelNotFound", True)


def test_a_transient_failure_is_tried_again_after_a_while() -> None:
    with _world(loading=FakeLoading(failures={A: [HubUnreachableError("down")]})) as world:
        answer = world.get(A)
        assert isinstance(answer, HubUnreachableError)
        assert isinstance(world.get(A), HubUnreachableError)
        assert world.loading.fetched == [A]
        world.until(lambda: isinstance(world.get(A), int))
        assert world.loading.fetched == [A, A]


def test_a_default_model_is_tried_again_by_itself() -> None:
    loading = FakeLoading(failures={EMBEDDER: [HubUnreachableError("down")]})
    with _world(EMBEDDER, loading=loading) as world:

        def ready() -> bool:
            world.residents.tick()
            return world.states() == {"org/embedder": "ready"}

        world.until(ready)
    shown = [(state.models[0].state, state.models[0].message) for state in world.published]
    assert shown == [
        ("loading", ""),
        ("load_failed", "down"),
        ("loading", "down"),
        ("ready", ""),
    ]


def test_a_bug_while_loading_is_an_answer_too() -> None:
    with _world(loading=FakeLoading(failures={A: [ZeroDivisionError("bug")]})) as world:
        answer = world.get(A)
        assert isinstance(answer, RuntimeFault)
        assert (answer.code, answer.message) == ("InternalError", "ZeroDivisionError: bug")


def test_remembered_failures_are_bounded() -> None:
    many = [Wanted(f"org/{n}") for n in range(100)]
    loading = FakeLoading(failures={wanted: [ModelNotFoundError("gone")] for wanted in many})
    with _world(EMBEDDER, loading=loading) as world:
        for wanted in many:
            assert isinstance(world.get(wanted), ModelNotFoundError)
        assert list(world.states()) == ["org/embedder", *(wanted.name for wanted in many[-64:])]


def test_loads_under_way_are_bounded() -> None:
    with _world() as world:
        world.loading.go.clear()
        waiting = [world.ask(Wanted(f"org/{n}")) for n in range(32)]
        refused = world.ask(A)
        assert isinstance(refused[0], OverloadedError)
        assert not any(waiting)
        world.loading.go.set()
        world.until(lambda: all(waiting))
        assert isinstance(world.get(A), int)
