"""Servers as processes of their own: started, waited for, looked at, ended. Ours and its peers alike."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.footprint import MIB, pss, tree
from bench.load import Address, Request, post

_START_SECONDS, _END_SECONDS, _LOOK_SECONDS = 180.0, 30.0, 0.01
_TICKS = os.sysconf("SC_CLK_TCK")
_OK = 200


@dataclass(frozen=True)
class Peer:
    """A server that can be started, and how it is spoken to.

    `build` says where its program came from. `body` makes a request of texts, `rows` takes the vectors out of
    an answer. `command` gets the port that it is to listen on.
    """

    name: str
    build: str
    precision: str
    command: Callable[[int], Sequence[str]]
    embed: str
    body: Callable[[Sequence[str]], object]
    rows: Callable[[Any], list[list[float]]]
    ready: str
    live: str
    environment: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Absent:
    """A peer that is not measured, and why."""

    name: str
    why: str


@dataclass
class Running:
    """A peer that answers."""

    peer: Peer
    process: subprocess.Popen[bytes]
    address: Address
    seconds_to_ready: float

    def request(self, texts: Sequence[str]) -> Request:
        """A request to embed these texts."""
        return post(self.peer.embed, self.peer.body(texts), len(texts), self.peer.headers)

    def ask(self, texts: Sequence[str]) -> list[list[float]]:
        """Embed texts and read the answer, for what is not timed."""
        data = json.dumps(self.peer.body(texts)).encode()
        asked = urllib.request.Request(
            f"http://{self.address[0]}:{self.address[1]}{self.peer.embed}",
            data,
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=_START_SECONDS) as answer:
            return self.peer.rows(json.load(answer))

    def memory_mib(self) -> float:
        """Proportional set size of all its processes."""
        return round(sum(map(pss, tree(self.process.pid))) / MIB, 1)

    def processes(self) -> int:
        """How many they are."""
        return len(tree(self.process.pid))

    def cpu_seconds(self) -> float:
        """CPU time of all its processes so far."""
        total = 0
        for pid in tree(self.process.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / _TICKS


@contextmanager
def running(peer: Peer, scratch: Path) -> Iterator[Running]:
    """A server for the time of the block, its log in `scratch`. Raises RuntimeError if it does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address: Address = free.getsockname()
    log = scratch / f"{peer.name.replace(' ', '-')}.log"
    started = time.perf_counter()
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(peer.command(address[1])),
            env=os.environ | dict(peer.environment),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait(process, f"http://{address[0]}:{address[1]}{peer.ready}", peer.name, log)
        yield Running(peer, process, address, time.perf_counter() - started)
    finally:
        _end(process)


def _wait(process: subprocess.Popen[bytes], url: str, name: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=_START_SECONDS) as answer:
                if answer.status == _OK:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(_LOOK_SECONDS)
    lines = log.read_text(errors="replace").splitlines()[-15:]
    raise RuntimeError("\n".join([f"{name} did not become ready; the end of its log:", *lines]))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
