"""The end of a server: readiness first, then the sockets, then what is in flight; and idle connections."""

import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.integration.runtime.server import (
    COMMIT,
    EMBEDDER,
    Server,
    environment,
    serving,
    wait_for,
)
from tests.unit.runtime import made


class _Client(threading.Thread):
    """Asks again and again over a kept connection until it is told to stop, as an application does."""

    def __init__(self, server: Server, stop: threading.Event) -> None:
        super().__init__()
        self._address, self._stop_asking = server.client.base_url, stop
        self.answers: list[tuple[float, int, str]] = []
        self.failures: list[str] = []
        self.start()

    def run(self) -> None:
        with httpx.Client(base_url=self._address, timeout=30, trust_env=False) as client:
            while not self._stop_asking.is_set():
                try:
                    answer = client.post("/embed", json={"input": ["red cat", "blue dog"]})
                except httpx.TransportError as error:
                    self.failures.append(repr(error))
                    return
                closes = answer.headers.get("Connection", "")
                self.answers.append((time.monotonic(), answer.status_code, closes))


def _embedder(home: Path) -> None:
    made.cache(home, EMBEDDER, COMMIT, made.write_embedder(home / "embedder"))


def _readiness(server: Server) -> tuple[int, str]:
    with httpx.Client(base_url=server.client.base_url, trust_env=False) as client:
        answer = client.get("/health/ready")
    return answer.status_code, answer.json()["status"]


def test_no_request_fails_while_a_server_under_load_drains(tmp_path: Path) -> None:
    _embedder(tmp_path)
    variables = environment(tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER, API_WORKERS="2", DRAIN_DELAY_SECS="2")
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        stop = threading.Event()
        clients = [_Client(server, stop) for _ in range(6)]
        wait_for(lambda: all(len(client.answers) > 5 for client in clients), "the load")
        signalled = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: _readiness(server) == (503, "draining"), "readiness to flip", 1)
        flipped = time.monotonic()
        wait_for(lambda: all(client.answers[-1][0] > flipped + 0.5 for client in clients), "more answers", 10)
        # Now the endpoints are gone, and nobody sends any more.
        stop.set()
        for client in clients:
            client.join()
        assert server.process.wait(20) == 0
        took = time.monotonic() - signalled
    assert flipped - signalled < 1
    assert 1.9 < took < 10
    for client in clients:
        assert client.failures == []
        assert {status for _, status, _ in client.answers} == {200}
        late = [closes for at, _, closes in client.answers if at > flipped + 0.2]
        assert late
        assert set(late) == {"close"}
        assert client.answers[0][2] == ""


def test_after_the_delay_nothing_is_accepted(tmp_path: Path) -> None:
    _embedder(tmp_path)
    variables = environment(tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER, DRAIN_DELAY_SECS="1")
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        url = server.client.base_url
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: bool(server.events("draining")), "the signal to arrive")
        socket.create_connection((url.host, url.port)).close()
        assert server.process.wait(10) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((url.host, url.port))


def test_an_interrupt_does_not_wait_for_the_delay(tmp_path: Path) -> None:
    _embedder(tmp_path)
    variables = environment(tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER, DRAIN_DELAY_SECS="30")
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        started = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(15) == 0
        assert time.monotonic() - started < 10


def test_the_time_out_bounds_the_delay(tmp_path: Path) -> None:
    _embedder(tmp_path)
    variables = environment(
        tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER, DRAIN_DELAY_SECS="60", SHUTDOWN_TIMEOUT_SECS="1"
    )
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        started = time.monotonic()
        assert server.stop() == 0
        assert 0.9 < time.monotonic() - started < 10


def test_what_is_cut_off_is_told_so(tmp_path: Path) -> None:
    made.cache(tmp_path, EMBEDDER, COMMIT, made.write_slow_to_run(tmp_path / "slow", 200))
    variables = environment(tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER, SHUTDOWN_TIMEOUT_SECS="1")
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(server.client.post("/embed", json={"input": ["cat " * 500] * 1000}))

        asking = threading.Thread(target=ask)
        asking.start()
        wait_for(
            lambda: "inference_requests_in_flight 1.0" in httpx.get(f"{server.client.base_url}/metrics").text,
            "the request to be in flight",
        )
        assert server.stop() == 0
        asking.join()
        (answer,) = answers
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "Draining"
        assert "Traceback" not in server.log()


def test_an_idle_connection_is_closed_after_keep_alive_secs(tmp_path: Path) -> None:
    _embedder(tmp_path)
    with serving(environment(tmp_path, KEEP_ALIVE_SECS="1"), tmp_path / "log") as server:
        url = server.client.base_url
        with socket.create_connection((url.host, url.port), timeout=10) as connection:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b'"alive"}'):
                answer += connection.recv(4096)
            started = time.monotonic()
            assert connection.recv(4096) == b""
            assert 0.5 < time.monotonic() - started < 5
