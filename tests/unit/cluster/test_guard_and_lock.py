"""Real processes: what a dead run leaves behind is ended, and only one run works at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.cluster.guard import Guard
from e2e.cluster.lock import exclusive, holder_text
from e2e.cluster.state import ROOT

WAIT_SECONDS = 30.0

# a run that holds the lock and has a long program at work, of which the guard has been told
RUN = """
import sys
from contextlib import contextmanager
from pathlib import Path
from e2e.cluster.guard import Guard
from e2e.cluster.lock import exclusive
from e2e.cluster.process import Log
folder = Path(sys.argv[1])
class Telling(Guard):
    @contextmanager
    def watching(self, group):
        with super().watching(group):
            (folder / "child").write_text(str(group))
            yield
with exclusive(folder / "lock", "a test", print) as descriptor:
    Log(folder / "log", Telling([descriptor])).run(["sleep", "600"])
"""

SECOND = """
import sys
from pathlib import Path
from e2e.cluster.lock import exclusive
with exclusive(Path(sys.argv[1]), "the second", lambda text: print(text, flush=True)):
    print("has it")
"""


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if not Path("/proc/self").exists():
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone since
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_run_had_started_is_ended_before_the_next_begins(
    tmp_path: Path, number: signal.Signals
) -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], cwd=ROOT)
    until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip())
    child = int((tmp_path / "child").read_text())
    run.send_signal(number)
    run.wait(WAIT_SECONDS)
    with exclusive(tmp_path / "lock", "the next", lambda _: None):
        assert not alive(child)


def test_closing_the_guard_ends_what_is_at_work(tmp_path: Path) -> None:
    guard = Guard()
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    reaper = threading.Thread(target=process.wait)
    reaper.start()
    with guard.watching(process.pid):
        guard.close()
    reaper.join(WAIT_SECONDS)
    assert process.returncode == -signal.SIGTERM


def test_the_guard_leaves_finished_groups_alone() -> None:
    guard = Guard()
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    with guard.watching(process.pid):
        pass
    guard.close()
    assert process.poll() is None
    process.kill()
    process.wait()


def test_the_second_run_says_who_holds_the_lock_and_waits(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with exclusive(lock, "the first", lambda _: None):
        command = [sys.executable, "-c", SECOND, str(lock)]
        second = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert second.stdout
        told = second.stdout.readline()
        assert "waiting for `the first`" in told
        assert f"pid {os.getpid()}" in told
        assert str(Path.cwd()) in told
    rest, _ = second.communicate(timeout=WAIT_SECONDS)
    assert rest.endswith("has it\n")


def test_a_lock_left_by_a_dead_run_is_free(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text('{"pid": 999999999, "checkout": "/gone", "purpose": "old", "since": "then"}')
    assert "the end of what" in holder_text(lock)
    said: list[str] = []
    with exclusive(lock, "new", said.append):
        pass
    assert said == []
