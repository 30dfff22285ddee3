"""HTTP as clients meet it: keys, deadlines, odd requests, the documentation page, from a real server."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.runtime.server import COMMIT, EMBEDDER, Server, environment, serving, wait_for
from tests.unit.runtime import made

_JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server with API keys and a metrics port, and the file of its keys."""
    home = tmp_path_factory.mktemp("secured")
    made.cache(home, EMBEDDER, COMMIT, made.write_embedder(home / "embedder"))
    keys = home / "keys"
    keys.write_text("# team a\nalpha\n\nbeta\n")
    variables = environment(
        home,
        DEFAULT_EMBEDDING_MODEL=EMBEDDER,
        API_KEY_FILE=str(keys),
        API_WORKERS="2",
        METRICS_PORT="0",
        MAX_REQUEST_BYTES="100000",
    )
    with serving(variables, home / "log") as server:
        server.wait_until("ready")
        yield server, keys


def _status(server: Server, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return server.client.post("/embed", json={"input": "cat"}, headers=headers).status_code


def test_keys_are_asked_for_everywhere_but_for_health(secured: tuple[Server, Path]) -> None:
    server, _ = secured
    client = server.client
    assert (_status(server, "alpha"), _status(server, "beta"), _status(server, "gamma")) == (200, 200, 401)
    assert client.post("/embed", json={"input": "cat"}, headers={"X-API-Key": "beta"}).status_code == 200
    for path in ("/models", "/metrics", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"X-API-Key": "alpha"}).status_code == 200
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200


def test_the_metrics_port_needs_no_key(secured: tuple[Server, Path]) -> None:
    server, _ = secured
    (event,) = server.events("listening")
    with httpx.Client(base_url=f"http://127.0.0.1:{event['metrics_port']}", trust_env=False) as client:
        assert "inference_requests_in_flight" in client.get("/metrics").text
        assert client.get("/models").status_code == 404
        assert client.post("/embed", json={"input": "cat"}).status_code == 404


def test_a_large_body_without_a_key_is_refused_and_the_connection_kept(secured: tuple[Server, Path]) -> None:
    server, _ = secured
    for _ in range(3):
        answer = server.client.post("/embed", content=b"x" * 3_000_000, headers=_JSON)
        assert answer.status_code == 401
    assert _status(server, "alpha") == 200


def _chunks() -> Iterator[bytes]:
    for _ in range(300):
        yield b"x" * 10_000


@pytest.mark.parametrize("more", [{}, {"Connection": "close"}])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_body_over_the_limit_is_refused_while_it_comes(
    secured: tuple[Server, Path], more: dict[str, str], streamed: bool
) -> None:
    server, _ = secured
    headers = {**_JSON, "X-API-Key": "alpha", **more}
    for _ in range(3):
        content = _chunks() if streamed else b"x" * 3_000_000
        answer = server.client.post("/embed", content=content, headers=headers)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "RequestTooLarge"
    assert _status(server, "alpha") == 200


def test_changed_keys_count_in_every_process_within_seconds(secured: tuple[Server, Path]) -> None:
    server, keys = secured
    keys.write_text("gamma\n")
    wait_for(lambda: {_fresh(server, "gamma") for _ in range(8)} == {200}, "the new key to count", 10)
    wait_for(lambda: {_fresh(server, "alpha") for _ in range(8)} == {401}, "the old key to be gone", 10)
    keys.unlink()
    wait_for(lambda: bool(server.events("API key file ignored")) or not _fresh(server, "gamma"), "the look")
    assert _fresh(server, "gamma") == 200
    keys.write_text("alpha\nbeta\n")
    wait_for(lambda: {_fresh(server, "alpha") for _ in range(8)} == {200}, "the first key to be back", 10)
    assert "gamma" not in server.log()


def _fresh(server: Server, key: str) -> int:
    """The status over a new connection, which any of the processes may get."""
    with httpx.Client(base_url=server.client.base_url, trust_env=False) as client:
        return client.post("/embed", json={"input": "cat"}, headers={"X-API-Key": key}).status_code


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", 400),
        (b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n", 413),
        (
            b"POST /embed HTTP/1.1\r\nhost: x\r\nx-request-timeout-ms: \xff\r\ncontent-length: 2\r\n\r\n{}",
            400,
        ),
        (b"GET /%ff%00 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)
def test_odd_requests_are_answered(shared_server: Server, request_bytes: bytes, status: int) -> None:
    address = (shared_server.client.base_url.host, shared_server.client.base_url.port)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(request_bytes)
        head = connection.recv(100).decode("latin-1")
    assert head.split()[1] == str(status)


def test_the_documentation_page_comes_from_the_server_alone(shared_server: Server) -> None:
    page = shared_server.client.get("/docs")
    assert page.status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert shared_server.client.get("/docs/swagger-ui-bundle.js").status_code == 200
    assert shared_server.client.get("/openapi.json").json()["openapi"].startswith("3.")


def test_a_deadline_passes_while_the_engine_is_busy_and_its_work_is_dropped(tmp_path: Path) -> None:
    made.cache(tmp_path, EMBEDDER, COMMIT, made.write_slow_to_run(tmp_path / "slow", 200))
    variables = environment(
        tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER, MAX_BATCH_TOKENS="512", REQUEST_TIMEOUT_SECS="2"
    )
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        long: dict[str, Any] = {"input": ["cat " * 500] * 400}
        for headers, seconds in (({"X-Request-Timeout-Ms": "300"}, 0.3), ({}, 2.0)):
            started = time.monotonic()
            answer = server.client.post("/embed", json=long, headers=headers)
            assert answer.status_code == 504
            assert answer.json()["error"]["code"] == "DeadlineExceeded"
            assert seconds <= time.monotonic() - started < seconds + 5
        # 800 texts would take a minute or two; a single one waits for the batch that runs.
        answer = server.client.post(
            "/embed", json={"input": "cat"}, headers={"X-Request-Timeout-Ms": "60000"}
        )
        assert answer.status_code in (200, 504)
        wait_for(
            lambda: server.client.post("/embed", json={"input": "cat"}).status_code == 200, "an answer", 20
        )
        text = server.client.get("/metrics").text
        assert 'inference_rejections_total{reason="DeadlineExceeded"} ' in text


def test_a_client_that_left_is_logged_as_499(tmp_path: Path) -> None:
    made.cache(tmp_path, EMBEDDER, COMMIT, made.write_slow_to_run(tmp_path / "slow", 200))
    with serving(environment(tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER), tmp_path / "log") as server:
        server.wait_until("ready")

        def leave() -> None:
            with pytest.raises(httpx.ReadTimeout):
                server.client.post("/embed", json={"input": ["cat " * 500] * 50}, timeout=0.5)

        leaving = threading.Thread(target=leave)
        leaving.start()
        leaving.join()
        wait_for(lambda: any(line["status"] == 499 for line in server.events("request")), "the log line", 10)
        (line,) = [line for line in server.events("request") if line["status"] == 499]
        assert (line["code"], line["path"]) == ("ClientLeft", "/embed")
