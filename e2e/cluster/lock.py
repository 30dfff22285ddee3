"""One run at a time on one machine, whichever checkout it comes from."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

WAIT_SECONDS = 60 * 60.0
REMIND_SECONDS = 30.0


class LockTimeoutError(Exception):
    """Another run has held the lock for longer than any run takes."""


@contextmanager
def exclusive(path: Path, purpose: str, say: Callable[[str], None]) -> Iterator[int]:
    """Hold the lock at `path`, waiting for its holder if there is one, and yield its file descriptor.

    The kernel frees the lock when the last process that has the descriptor ends, so none is ever left behind.

    Raises:
        LockTimeoutError: the holder did not finish within an hour.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(descriptor, path, say)
        holder = {
            "pid": os.getpid(),
            "checkout": str(Path.cwd()),
            "purpose": purpose,
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, say: Callable[[str], None]) -> None:
    start = reminded = time.monotonic()
    told = ""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            now, text = time.monotonic(), holder_text(path)
        if text != told or now - reminded > REMIND_SECONDS:
            say(f"waiting for {text}")
            told, reminded = text, now
        if now - start > WAIT_SECONDS:
            raise LockTimeoutError(f"gave up waiting for {text}")
        time.sleep(0.5)


def holder_text(path: Path) -> str:
    """Return who holds the lock, in words."""
    try:
        holder = json.loads(path.read_text())
        text = f"`{holder['purpose']}` of {holder['checkout']} (pid {holder['pid']}, since {holder['since']})"
        alive = Path(f"/proc/{holder['pid']}").exists() or not Path("/proc/self").exists()
    except (ValueError, KeyError, OSError):
        return "another run, which has only just begun"
    return text if alive else f"the end of what {text} had started"
