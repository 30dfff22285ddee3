"""Ends what a run has started when the run itself ends in any way, `kill -9` included.

A second process holds the read end of a pipe and is told which process groups are at work. When the pipe
closes, because the run is over or dead, it ends those that are left. It holds the machine's lock as well, so
that no other run begins before the last leftovers are gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

GRACE_SECONDS = 5.0


class Guard:
    """The run's side of the pipe. Safe to use from several threads."""

    def __init__(self, keep_open: Iterable[int] = ()) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            pass_fds=tuple(keep_open),
            start_new_session=True,
            text=True,
            bufsize=1,
        )
        self._turn = threading.Lock()
        self.closed = False

    @contextmanager
    def watching(self, group: int) -> Iterator[None]:
        """Have the process group ended if the run ends while the block is at work."""
        self._tell(f"+{group}")
        try:
            yield
        finally:
            self._tell(f"-{group}")

    def close(self) -> None:
        """End whatever is still at work and return when it is gone."""
        with self._turn:
            self.closed = True
            if self._process.stdin and not self._process.stdin.closed:
                self._process.stdin.close()
        self._process.wait()

    def _tell(self, message: str) -> None:
        with self._turn, suppress(BrokenPipeError):
            if self._process.stdin and not self.closed:
                self._process.stdin.write(message + "\n")


def watch(messages: TextIO) -> None:
    """Follow the pipe to its end, then end the groups that were not reported as finished."""
    groups: set[int] = set()
    for message in messages:
        group = int(message[1:])
        if message.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    for wanted in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE_SECONDS
        for group in groups:
            _signal(group, wanted)
        while any(_signal(group, 0) for group in groups) and time.monotonic() < deadline:
            time.sleep(0.05)


def _signal(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch(sys.stdin)
