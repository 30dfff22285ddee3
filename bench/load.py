"""A light HTTP client for measuring: one thread, kept connections, requests encoded beforehand.

It shares the machine with the server that it measures, so it does next to nothing: it sends bytes that were
made before, counts the bytes of the answer, and reads the clock. What it costs is measured too (`Run.cpu`).
Answers are not decoded here; that they are right is checked apart (`bench.peers.agreement`).
"""

from __future__ import annotations

import json
import re
import select
import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Address = tuple[str, int]

_SEND_BUFFER, _CHUNK = 1 << 20, 1 << 18
_STALLED_SECONDS = 120.0
_OK, _OVERLOADED = 200, (429, 503)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"\r\nretry-after: *([\d.]+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Request:
    """Bytes to send, and how many texts are in them."""

    wire: bytes
    texts: int = 0


def post(path: str, body: object, texts: int, headers: Mapping[str, str] | None = None) -> Request:
    """A POST of JSON."""
    content = json.dumps(body).encode()
    lines = {"Host": "bench", "Content-Type": "application/json", "Content-Length": str(len(content))}
    return Request(_head("POST", path, lines | dict(headers or {})) + content, texts)


def get(path: str) -> Request:
    """A GET."""
    return Request(_head("GET", path, {"Host": "bench"}))


def _head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass
class Run:
    """What a stream of requests met with. Seconds; `started` and `ended` are times of one clock."""

    started: float = 0.0
    ended: float = 0.0
    latencies: list[float] = field(default_factory=list)
    texts: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    cpu: float = 0.0
    """CPU seconds of this client while the streams that ran together did."""

    @property
    def seconds(self) -> float:
        """From the beginning to the last answer."""
        return self.ended - self.started

    @property
    def texts_per_second(self) -> float:
        """Texts answered in that time."""
        return self.texts / self.seconds


@dataclass
class Closed:
    """Clients that each send their next request when the last is answered.

    They end with the requests, or, where `seconds` are given, go round the requests until those are over. A
    refusal (429, 503) is asked again after its Retry-After, as a client should.
    """

    requests: Sequence[Request]
    clients: int
    seconds: float | None = None

    def upcoming(self, begun: float) -> Iterator[Request]:
        """What is to be sent, for as long as it is to be sent."""
        if self.seconds is None:
            yield from self.requests
            return
        number = 0
        while time.perf_counter() < begun + self.seconds:
            yield self.requests[number % len(self.requests)]
            number += 1


@dataclass
class Open:
    """Requests that arrive when they do, whether the ones before were answered or not.

    `gaps`: seconds from one arrival to the next, without end. They arrive for `seconds` at least, and until
    the last closed client beside them is done. A latency counts from when the request should have been sent.
    """

    requests: Sequence[Request]
    gaps: Iterable[float]
    seconds: float = 0.0


class _Connection:
    def __init__(self, address: Address) -> None:
        self.socket = socket.create_connection(address, _STALLED_SECONDS)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.asked, self.request = 0.0, Request(b"")
        self._head, self._missing = b"", -1
        self._tail: bytes | None = None

    def closed(self) -> bool:
        """Whether the server has closed it, as servers do with what is idle for some seconds.

        Nothing was asked: if something can be read, it is the end.
        """
        return bool(select.select([self.socket], [], [], 0)[0])

    def send(self, request: Request, asked: float) -> None:
        self.asked, self.request = asked, request
        self._head, self._missing, self._tail = b"", -1, None
        self.socket.sendall(request.wire)

    def receive(self) -> bytes | None:
        """Read what is there; the answer's head once all of the answer has come."""
        data = self.socket.recv(_CHUNK)
        if not data:
            raise ConnectionError("the server closed the connection in the middle of an answer")
        if self._missing < 0 and self._tail is None:
            self._head += data
            head, separator, data = self._head.partition(b"\r\n\r\n")
            if not separator:
                return None
            self._head = head
            if (length := _LENGTH.search(head)) is not None:
                self._missing = int(length[1])
            elif _CHUNKED.search(head):
                self._tail = b"\r\n"
            else:
                raise ConnectionError(f"an answer without a length: {head!r}")
        if self._tail is not None:
            self._tail = (self._tail + data)[-len(_LAST_CHUNK) :]
            return self._head if self._tail == _LAST_CHUNK else None
        self._missing -= len(data)
        return self._head if self._missing == 0 else None


class _Loop:
    def __init__(self, address: Address) -> None:
        self._address = address
        self.selector = selectors.DefaultSelector()
        self._connections: list[_Connection] = []
        self.idle: list[_Connection] = []
        self.waiting = 0

    def connection(self) -> _Connection:
        while self.idle:
            connection = self.idle.pop()
            if not connection.closed():
                return connection
        self._connections.append(_Connection(self._address))
        return self._connections[-1]

    def send(self, owner: _Closed | _Open, connection: _Connection, request: Request, asked: float) -> None:
        self.selector.register(connection.socket, selectors.EVENT_READ, (owner, connection))
        self.waiting += 1
        connection.send(request, asked)

    def done(self, connection: _Connection) -> None:
        self.selector.unregister(connection.socket)
        self.waiting -= 1

    def close(self) -> None:
        for connection in self._connections:
            connection.socket.close()
        self.selector.close()


class _Closed:
    def __init__(self, plan: Closed, loop: _Loop, begun: float) -> None:
        self._loop, self.run = loop, Run(begun)
        self._upcoming = plan.upcoming(begun)
        self._later: list[tuple[float, _Connection, Request, float]] = []
        self._busy = 0
        for _ in range(plan.clients):
            self._next(loop.connection())

    @property
    def finished(self) -> bool:
        return not self._busy

    def due(self) -> float:
        return min((when for when, *_ in self._later), default=float("inf"))

    def wake(self, now: float) -> None:
        ready = [entry for entry in self._later if entry[0] <= now]
        self._later = [entry for entry in self._later if entry[0] > now]
        for _, connection, request, asked in ready:
            self._loop.send(self, connection, request, asked)

    def answered(self, connection: _Connection, head: bytes, now: float) -> None:
        self._busy -= 1
        if (status := _status(head)) in _OVERLOADED:
            self.run.refused[status] += 1
            pause = _RETRY_AFTER.search(head)
            when = now + (float(pause[1]) if pause else 0.1)
            self._later.append((when, connection, connection.request, connection.asked))
            self._busy += 1
            return
        _count(self.run, connection, status, now)
        self._next(connection)

    def _next(self, connection: _Connection) -> None:
        request = next(self._upcoming, None)
        if request is None:
            self._loop.idle.append(connection)
            return
        self._busy += 1
        self._loop.send(self, connection, request, time.perf_counter())


class _Open:
    def __init__(self, plan: Open, loop: _Loop, begun: float) -> None:
        self._loop, self.run = loop, Run(begun)
        self._requests, self._sent = plan.requests, 0
        self._gaps = iter(plan.gaps)
        self._until = begun + plan.seconds
        self._next = begun + next(self._gaps)
        self.others: list[_Closed] = []

    @property
    def finished(self) -> bool:
        return self._next > self._until and all(other.finished for other in self.others)

    def due(self) -> float:
        return float("inf") if self.finished else self._next

    def wake(self, now: float) -> None:
        while not self.finished and self._next <= now:
            request = self._requests[self._sent % len(self._requests)]
            self._loop.send(self, self._loop.connection(), request, self._next)
            self._sent += 1
            self._next += next(self._gaps)

    def answered(self, connection: _Connection, head: bytes, now: float) -> None:
        if (status := _status(head)) in _OVERLOADED:
            self.run.refused[status] += 1
        else:
            _count(self.run, connection, status, now)
        self._loop.idle.append(connection)


def _status(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])


def _count(run: Run, connection: _Connection, status: int, now: float) -> None:
    if status != _OK:
        raise RuntimeError(f"the server answered {status}")
    run.latencies.append(now - connection.asked)
    run.texts += connection.request.texts
    run.ended = now


def drive(address: Address, *plans: Closed | Open) -> list[Run]:
    """Let all plans run side by side until each has ended and every answer is there; a Run for each.

    Raises RuntimeError for an answer that is neither 200 nor a refusal, ConnectionError, and TimeoutError
    when nothing is answered for two minutes.
    """
    loop = _Loop(address)
    spent, begun = time.process_time(), time.perf_counter()
    try:
        closed = [_Closed(plan, loop, begun) for plan in plans if isinstance(plan, Closed)]
        opened = [_Open(plan, loop, begun) for plan in plans if isinstance(plan, Open)]
        for stream in opened:
            stream.others = closed
        _turn(loop, [*closed, *opened])
    finally:
        loop.close()
    cpu = time.process_time() - spent
    one, other = iter(closed), iter(opened)
    runs = [next(one).run if isinstance(plan, Closed) else next(other).run for plan in plans]
    for run in runs:
        run.cpu = cpu
    return runs


def _turn(loop: _Loop, streams: Sequence[_Closed | _Open]) -> None:
    while loop.waiting or not all(stream.finished for stream in streams):
        due = min(stream.due() for stream in streams)
        patience = min(_STALLED_SECONDS, max(0.0, due - time.perf_counter()))
        events = loop.selector.select(patience)
        if not events and patience == _STALLED_SECONDS:
            raise TimeoutError(f"no answer for {_STALLED_SECONDS} s")
        for key, _ in events:
            owner, connection = key.data
            if (head := connection.receive()) is not None:
                loop.done(connection)
                owner.answered(connection, head, time.perf_counter())
        now = time.perf_counter()
        for stream in streams:
            stream.wake(now)
