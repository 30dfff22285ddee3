"""Shows how steps are going: one living line on a terminal, plain lines with a heartbeat elsewhere.

Everything goes to stderr, so that stdout is free for results.
"""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from e2e.cluster.process import Log

HEARTBEAT_SECONDS = 20.0


@dataclass
class Running:
    """A step at work."""

    name: str
    log: Log
    started: float = field(default_factory=time.monotonic)
    spoke: float = 0.0

    def line(self, now: float) -> str:
        """Return elapsed seconds and the last line of the log."""
        last = self.log.tail(1)
        return f"{self.name} {now - self.started:.0f} s: {last[0].strip() if last else ''}"


class Progress:
    """Writes to a terminal or a plain stream."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._drawn = False

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self._erase()
        self._stream.write(text + "\n")
        self._stream.flush()

    def started(self, title: str, log: Log) -> None:
        """Tell that a step begins, and where its log is."""
        self.say(f"  ... {title} (log: {short(log.path)})")

    def tick(self, running: list[Running]) -> None:
        """Show that the steps are alive; called about once a second."""
        now = time.monotonic()
        if self._live and running:
            width = shutil.get_terminal_size().columns - 1
            share = max(20, (width - 6) // len(running) - 3)
            self._erase()
            self._stream.write(" | ".join(f"{step.line(now):.{share}}" for step in running)[:width])
            self._stream.flush()
            self._drawn = True
            return
        for step in running:
            if now - max(step.spoke, step.started) >= HEARTBEAT_SECONDS:
                step.spoke = now
                self.say(f"      {step.line(now):.150}")

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write("\r\033[K")
            self._drawn = False


def short(path: Path) -> str:
    """Return a path as one writes it: below one's home from `~` on."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def table(rows: list[tuple[str, float, str]]) -> str:
    """Return step names, seconds and what became of them, aligned."""
    width = max((len(name) for name, _, _ in rows), default=0)
    return "\n".join(f"  {name:<{width}} {seconds:7.1f} s  {state}" for name, seconds, state in rows)
