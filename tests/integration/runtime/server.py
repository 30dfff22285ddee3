"""A real server in a process of its own, and what tests ask of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

COMMIT = "0123456789abcdef0123456789abcdef01234567"
EMBEDDER, RERANKER = "org/embedder", "org/reranker"

_RUNTIME = [sys.executable, "-m", "embedding_runtime"]
_SECONDS = 60.0


def environment(home: Path, **variables: str) -> dict[str, str]:
    """The environment of a pod: offline, small, on loopback; no proxy and no token of this machine."""
    inherited = {
        name: os.environ[name] for name in ("PATH", "LANG", "HOME", "PYTHONPATH") if name in os.environ
    }
    temporary = home / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        **inherited,
        "TMPDIR": str(temporary),
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "API_HOST": "127.0.0.1",
        "API_PORT": "0",
        "API_WORKERS": "1",
        "ORT_EXECUTION_PROVIDER": "cpu",
        "DEFAULT_EMBEDDING_MODEL": "",
        "DRAIN_DELAY_SECS": "0",
        "LOG_FORMAT": "json",
        **variables,
    }


def run(command: str, variables: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the runtime to its end."""
    return subprocess.run(
        [*_RUNTIME, command, *options], env=variables, capture_output=True, text=True, timeout=60, check=False
    )


def wait_for(condition: Callable[[], bool], what: str, seconds: float = _SECONDS) -> None:
    """Return when the condition holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for: {what}"
        time.sleep(0.01)


class Server:
    """A running `serve`, its log and its processes."""

    def __init__(self, variables: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("w") as stream:
            self.process = subprocess.Popen([*_RUNTIME, "serve"], env=variables, stderr=stream, stdout=stream)
        wait_for(lambda: bool(self.events("listening")) or self.process.poll() is not None, "listening")
        (event,) = self.events("listening")
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{event['port']}", timeout=_SECONDS, trust_env=False
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def log(self) -> str:
        """Everything that was logged so far."""
        return self._log.read_text()

    def health(self) -> dict[str, Any]:
        """The body of /health/ready."""
        body: dict[str, Any] = self.client.get("/health/ready").json()
        return body

    def wait_until(self, status: str) -> dict[str, Any]:
        """The body of /health/ready as soon as its status is this one."""
        wait_for(lambda: self.health()["status"] == status, f"status {status}")
        return self.health()

    def children(self) -> dict[int, str]:
        """Pid and command line of every living child of the supervisor."""
        return {pid: line for pid, parent, line in _processes() if parent == self.process.pid and line}

    def engine(self) -> int:
        """The engine's pid."""
        (pid,) = [pid for pid, line in self.children().items() if "engine_process" in line]
        return pid

    def workers(self) -> list[int]:
        """The HTTP processes' pids."""
        return sorted(pid for pid, line in self.children().items() if "engine_process" not in line)

    def stop(self) -> int:
        """Ask it to end; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_SECONDS)


def _processes() -> Iterator[tuple[int, int, str]]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            line = (folder / "cmdline").read_text().replace("\0", " ")
            state, parent = (folder / "stat").read_text().rpartition(") ")[2].split()[:2]
        except OSError:  # it ended meanwhile
            continue
        if state != "Z":
            yield int(folder.name), int(parent), line


def is_running(pid: int) -> bool:
    """Whether a process lives."""
    return any(pid == other for other, _, _ in _processes())


@contextmanager
def serving(variables: dict[str, str], log: Path) -> Iterator[Server]:
    """A server for the time of the block; killed at its end if it still runs."""
    server = Server(variables, log)
    try:
        yield server
    finally:
        server.client.close()
        if server.process.poll() is None:
            server.stop()
