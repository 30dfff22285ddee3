"""Runs other programs: short ones for their answer, long ones into a log. Decides nothing."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.cluster.guard import Guard

ANSWER_SECONDS = 30.0
TAIL_LINES = 15


class CommandError(Exception):
    """A program ended with an error, or not in time; the message has its last words."""


def answer(command: Sequence[str], timeout: float = ANSWER_SECONDS, stdin: str | None = None) -> str:
    """Return what a short command printed on stdout.

    Raises:
        CommandError: it is not there, failed, or did not end within `timeout` seconds.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL if stdin is None else None,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise CommandError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


def succeeds(command: Sequence[str], timeout: float = ANSWER_SECONDS) -> bool:
    """Tell whether a short command ends well and in time."""
    try:
        answer(command, timeout)
    except CommandError:
        return False
    return True


class Log:
    """The log of one step, and the programs that write into it."""

    def __init__(self, path: Path, guard: Guard) -> None:
        self.path = path
        self._guard = guard
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def say(self, text: str) -> None:
        """Add a line."""
        with self.path.open("a") as stream:
            stream.write(text + "\n")

    def run(
        self,
        command: Sequence[str | Path],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float | None = None,
    ) -> None:
        """Run a program to its end with everything it prints in the log.

        Raises:
            CommandError: it failed or did not end within `timeout` seconds.
        """
        words = [str(word) for word in command]
        self.say("$ " + " ".join(words))
        with self.path.open("a") as stream:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
            with self._guard.watching(process.pid):
                try:
                    status = process.wait(timeout)
                except subprocess.TimeoutExpired as error:
                    os.killpg(process.pid, 9)
                    process.wait()
                    raise CommandError(f"{words[0]} did not end within {timeout:.0f} s") from error
        if status:
            raise CommandError(f"{' '.join([Path(words[0]).name, *words[1:]]):.150}: exit status {status}")

    def pause(self, seconds: float) -> None:
        """Sleep between two looks at something.

        Raises:
            CommandError: the run is over, by an interruption or because another step has failed.
        """
        time.sleep(seconds)
        if self._guard.closed:
            raise CommandError("the run has ended")

    def tail(self, lines: int = TAIL_LINES) -> list[str]:
        """Return the last lines that are not empty."""
        with self.path.open("rb") as stream:
            stream.seek(max(0, self.path.stat().st_size - 200 * (lines + 5)))
            text = stream.read().decode(errors="replace").replace("\r", "\n")
        return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]
