"""Runs steps that depend on each other, several at a time, and says well what went wrong.

A step is done when its own check says so, never because it was started once: an interrupted step is simply
not done, and is run again. Which steps there are is not known here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.guard import Guard
from e2e.cluster.process import CommandError, Log
from e2e.cluster.progress import Progress, Running
from e2e.cluster.state import write_atomically

AT_ONCE = 4


def never() -> bool:
    """Return False: for a step that is quick and always run."""
    return False


@dataclass(frozen=True)
class Step:
    """One piece of work; `done` tells from what is there whether anything is left to do."""

    name: str
    title: str
    run: Callable[[Log], None]
    done: Callable[[], bool] = never
    needs: tuple[str, ...] = ()
    advice: str = "run the same command again: what is done is kept"


@dataclass(frozen=True)
class Outcome:
    """What became of a step: `ran` or `there` (nothing was left to do)."""

    name: str
    seconds: float
    state: str


class StepError(Exception):
    """A step did not succeed. The message says which, its last words, its log and what to try."""

    def __init__(self, step: Step, cause: BaseException, log: Log) -> None:
        words = "\n".join(f"    | {line}" for line in log.tail())
        super().__init__(
            f"failed: {step.title} (step {step.name})\n    {cause}\n{words}\n"
            f"    log: {log.path}\n    try: {step.advice}"
        )


class Runner:
    """Runs steps of one command, one after another or side by side, and keeps their timings."""

    def __init__(self, logs: Path, guard: Guard, progress: Progress) -> None:
        self.outcomes: list[Outcome] = []
        self._logs, self._guard, self._progress = logs, guard, progress
        self._running: dict[Future[float | None], tuple[Step, Running]] = {}

    def run(self, steps: Sequence[Step]) -> None:
        """Run every step after those that it needs; needs that are not among `steps` count as met.

        Raises:
            StepError: the first failure; the steps beside it are ended.
        """
        names = {step.name for step in steps}
        waiting, finished = list(steps), {need for step in steps for need in step.needs} - names
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="step") as pool:
            try:
                while waiting or self._running:
                    for step in [step for step in waiting if finished.issuperset(step.needs)]:
                        if len(self._running) < AT_ONCE:
                            waiting.remove(step)
                            self._start(pool, step)
                    finished |= self._collect()
            except BaseException:
                self._guard.close()
                raise

    def interrupted(self) -> list[str]:
        """Return the titles of the steps that were at work when the run was interrupted."""
        return [step.title for step, _ in self._running.values()]

    def save(self, path: Path) -> None:
        """Write the timings as JSON."""
        rows = [{"step": o.name, "seconds": round(o.seconds, 1), "state": o.state} for o in self.outcomes]
        write_atomically(path, json.dumps(rows, indent=1) + "\n")

    def _start(self, pool: ThreadPoolExecutor, step: Step) -> None:
        log = Log(self._logs / f"{step.name}.log", self._guard)
        self._running[pool.submit(self._perform, step, log)] = step, Running(step.name, log)

    def _perform(self, step: Step, log: Log) -> float | None:
        """Return the seconds that the step took, None when there was nothing to do."""
        start = time.monotonic()
        if step.done():
            return None
        self._progress.started(step.title, log)
        step.run(log)
        return time.monotonic() - start

    def _collect(self) -> set[str]:
        """Wait for a second at most, and return the names of the steps that have finished."""
        if not self._running:
            raise ValueError("steps wait for each other in a circle")
        over, _ = wait(self._running, timeout=1.0, return_when=FIRST_COMPLETED)
        names = set()
        for future in over:
            step, running = self._running[future]
            self._note(step, running, future)
            del self._running[future]
            names.add(step.name)
        self._progress.tick([running for _, running in self._running.values()])
        return names

    def _note(self, step: Step, running: Running, future: Future[float | None]) -> None:
        failure = future.exception()
        if isinstance(failure, CommandError | OSError):
            raise StepError(step, failure, running.log) from failure
        seconds = future.result()
        self.outcomes.append(Outcome(step.name, seconds or 0.0, "there" if seconds is None else "ran"))
        self._progress.say(f"  ok  {step.title}" + ("" if seconds is None else f" ({seconds:.0f} s)"))
