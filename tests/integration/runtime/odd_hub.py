"""The hub mirror, misbehaving: hanging, breaking off, refusing, redirecting; it remembers who asked what."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from e2e.mirror.server import Handler, Mirror


@dataclass(frozen=True)
class Asked:
    """One request: method, path and the headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]


class OddHandler(Handler):
    """Hands each request to the hub's fault first."""

    server: OddHub

    def _answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append(Asked(self.command, self.path, headers))
        fault = self.server.fault
        if fault is None or not fault(self):
            super()._answer()

    def _copy(self, stream: Any, length: int) -> None:
        breaks = self.server.body_fault
        if breaks is None or length <= self.server.half_bytes:
            super()._copy(stream, length)
            return
        super()._copy(stream, self.server.half_bytes)
        self.wfile.flush()
        breaks(self)
        super()._copy(stream, length - self.server.half_bytes)

    def refuse(self, status: int, **headers: str) -> bool:
        """Answer with this status; header names have underscores for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._send_plain(status, named)
        return True

    def _send_plain(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class OddHub(Mirror):
    """A mirror with faults that a test turns on and off.

    `fault` answers a request itself and returns True, or False to let it pass. `body_fault` is called in the
    middle of every body of more than `half_bytes`.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), root)
        self.RequestHandlerClass = OddHandler
        self.asked: list[Asked] = []
        self.fault: Callable[[OddHandler], bool] | None = None
        self.body_fault: Callable[[OddHandler], None] | None = None
        self.half_bytes = 1 << 19
        self.over = Event()
        self.endpoint = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was left alone and went away is what the test wanted."""

    def hang(self, handler: OddHandler) -> bool:
        """Fault: say nothing until the hub ends."""
        self.over.wait()
        return True

    def break_off(self, handler: OddHandler) -> None:
        """Fault of a body: end the connection."""
        raise ConnectionAbortedError

    def stop_sending(self, handler: OddHandler) -> None:
        """Fault of a body: keep the connection and send nothing more."""
        self.over.wait()
        raise ConnectionAbortedError

    def bodies(self) -> list[Asked]:
        """The requests for large files' contents."""
        return [asked for asked in self.asked if asked.method == "GET" and asked.path.startswith("/blobs/")]


@contextmanager
def odd_hub(root: Path, certificate: tuple[Path, Path] | None = None) -> Iterator[OddHub]:
    """A running hub over the repositories in `root`; with a certificate and its key it speaks TLS."""
    hub = OddHub(root)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        hub.socket = context.wrap_socket(hub.socket, server_side=True)
        hub.endpoint = f"https://127.0.0.1:{hub.server_port}"
    thread = Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.over.set()
        hub.shutdown()
        hub.server_close()
        thread.join()
