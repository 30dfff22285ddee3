"""What surrounds every command: the machine's lock, the guard, signals, and how an end is told."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

from e2e.cluster.guard import Guard
from e2e.cluster.lock import LockTimeoutError, exclusive
from e2e.cluster.plan import RefusedError
from e2e.cluster.process import CommandError
from e2e.cluster.progress import Progress, short, table
from e2e.cluster.state import State, sweep
from e2e.cluster.steps import Runner, StepError

FAILED, REFUSED, INTERRUPTED = 1, 2, 130


@dataclass
class Session:
    """One command at work."""

    state: State
    runner: Runner
    progress: Progress
    started: float = field(default_factory=time.monotonic)

    def summary(self) -> None:
        """Print the steps that took time, and keep all timings."""
        self.runner.save(self.state.timings)
        rows = [
            (o.name, o.seconds, "") for o in self.runner.outcomes if o.state == "ran" and o.seconds >= 1.0
        ]
        total = ("in all", time.monotonic() - self.started, f"(steps: {short(self.state.timings)})")
        self.progress.say(table([*rows, total]))


def conduct(state: State, purpose: str, work: Callable[[Session], None]) -> int:
    """Run a command under the machine's lock and return its exit status; what ends it is told in words."""
    progress = Progress()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        with exclusive(state.lock, purpose, progress.say) as descriptor:
            sweep(state.root, time.time())
            return _work(state, progress, descriptor, work)
    except LockTimeoutError as timeout:
        progress.say(str(timeout))
        return FAILED
    except KeyboardInterrupt:
        progress.say("interrupted.")
        return INTERRUPTED


def _work(state: State, progress: Progress, descriptor: int, work: Callable[[Session], None]) -> int:
    guard = Guard(keep_open=[descriptor])
    runner = Runner(state.logs, guard, progress)
    try:
        work(Session(state, runner, progress))
    except KeyboardInterrupt:
        at = ", ".join(runner.interrupted()) or "between two steps"
        progress.say(f"interrupted at: {at}. Run the same command again: it goes on from here.")
        return INTERRUPTED
    except RefusedError as refusal:
        progress.say(str(refusal))
        return REFUSED
    except (StepError, CommandError) as failure:
        progress.say(str(failure))
        return FAILED
    finally:
        guard.close()
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
