"""The step runner: order, what counts as done, and how failures and interruptions are told."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.cluster.guard import Guard
from e2e.cluster.process import Log
from e2e.cluster.progress import Progress
from e2e.cluster.steps import Runner, Step, StepError

Said = io.StringIO


@pytest.fixture
def said() -> Said:
    return io.StringIO()


@pytest.fixture
def guard() -> Iterator[Guard]:
    guard = Guard()
    yield guard
    guard.close()


@pytest.fixture
def runner(tmp_path: Path, said: Said, guard: Guard) -> Runner:
    return Runner(tmp_path / "logs", guard, Progress(said))


def noting(order: list[str], name: str) -> Callable[[Log], None]:
    return lambda _: order.append(name)


def test_a_step_runs_after_the_steps_that_it_needs(runner: Runner) -> None:
    order: list[str] = []
    names = {"last": ("middle",), "middle": ("first",), "first": ()}
    runner.run([Step(name, name, noting(order, name), needs=needs) for name, needs in names.items()])
    assert order == ["first", "middle", "last"]


def test_a_need_that_is_not_part_of_the_run_counts_as_met(runner: Runner) -> None:
    order: list[str] = []
    runner.run([Step("only", "only", noting(order, "only"), needs=("elsewhere",))])
    assert order == ["only"]


def test_independent_steps_run_side_by_side(runner: Runner) -> None:
    meeting = threading.Barrier(2)

    def run(_: Log) -> None:
        meeting.wait(timeout=10)

    runner.run([Step("a", "a", run), Step("b", "b", run)])


def test_a_step_whose_check_says_done_is_not_run(runner: Runner) -> None:
    order: list[str] = []
    runner.run([Step("done", "done", noting(order, "done"), done=lambda: True)])
    assert order == []
    assert [outcome.state for outcome in runner.outcomes] == ["there"]


def test_a_failure_names_the_step_its_last_words_its_log_and_what_to_try(
    runner: Runner, tmp_path: Path
) -> None:
    def run(log: Log) -> None:
        log.run(["sh", "-c", "echo first words; echo no space left >&2; exit 3"])

    with pytest.raises(StepError) as failure:
        runner.run([Step("disk", "fill the disk", run, advice="buy a larger one")])
    told = str(failure.value)
    for expected in ("fill the disk", "step disk", "no space left", "exit status 3", "buy a larger one"):
        assert expected in told
    assert str(tmp_path / "logs" / "disk.log") in told


def test_nothing_is_started_after_a_failure(runner: Runner) -> None:
    order: list[str] = []

    def fail(log: Log) -> None:
        log.run(["false"])

    with pytest.raises(StepError):
        runner.run(
            [Step("fails", "fails", fail), Step("after", "after", noting(order, "after"), needs=("fails",))]
        )
    assert order == []


def test_a_failure_ends_what_runs_beside_it(runner: Runner, tmp_path: Path) -> None:
    started = tmp_path / "started"

    def long(log: Log) -> None:
        log.run(["sh", "-c", f"touch {started}; sleep 600"])

    def fail(log: Log) -> None:
        while not started.exists():
            time.sleep(0.01)
        log.run(["false"])

    start = time.monotonic()
    with pytest.raises(StepError, match="fails"):
        runner.run([Step("long", "long", long), Step("fails", "fails", fail)])
    assert time.monotonic() - start < 60


def test_an_interrupted_step_is_not_done_and_is_run_again(tmp_path: Path, said: Said, guard: Guard) -> None:
    made, attempts = tmp_path / "made", 0

    def run(_: Log) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise KeyboardInterrupt
        made.touch()

    step = Step("make", "make it", run, done=made.exists)
    first = Runner(tmp_path, guard, Progress(said))
    with pytest.raises(KeyboardInterrupt):
        first.run([step])
    assert first.interrupted() == ["make it"]
    Runner(tmp_path, guard, Progress(said)).run([step])
    assert made.exists()


def test_a_step_that_waits_for_something_ends_with_the_run(runner: Runner) -> None:
    waiting = threading.Event()

    def wait_for_ever(log: Log) -> None:
        while True:
            waiting.set()
            log.pause(0.01)

    def fail(log: Log) -> None:
        waiting.wait(10)
        log.run(["false"])

    with pytest.raises(StepError, match="fails"):
        runner.run([Step("waits", "waits", wait_for_ever), Step("fails", "fails", fail)])


def test_steps_in_a_circle_are_refused(runner: Runner) -> None:
    steps = [Step("a", "a", lambda _: None, needs=("b",)), Step("b", "b", lambda _: None, needs=("a",))]
    with pytest.raises(ValueError, match="circle"):
        runner.run(steps)


def test_timings_are_kept_as_json(runner: Runner, tmp_path: Path) -> None:
    runner.run([Step("a", "a", lambda _: None), Step("b", "b", lambda _: None, done=lambda: True)])
    runner.save(tmp_path / "timings.json")
    rows = json.loads((tmp_path / "timings.json").read_text())
    assert [(row["step"], row["state"]) for row in rows] == [("a", "ran"), ("b", "there")]


def test_a_started_step_says_where_its_log_is(runner: Runner, said: Said, tmp_path: Path) -> None:
    runner.run([Step("a", "do a thing", lambda _: None)])
    assert f"do a thing (log: {tmp_path / 'logs' / 'a.log'})" in said.getvalue()
