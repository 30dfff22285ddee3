"""Liveness answers, whatever the process that has to answer is sent meanwhile.

The bounds are twenty times what is promised (50 ms): other work on the machine that tests run on is no fault
of the server's. bench/hops.py measures the promise itself.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.integration.runtime.server import COMMIT, EMBEDDER, Server, environment, serving
from tests.unit.runtime import made

_BOUND_SECONDS = 1.0
_LOOKS = 100
_JSON = {"Content-Type": "application/json"}
_CROWD = json.dumps({"input": [1] * 1_000_000}).encode()
_LONG = json.dumps({"input": ["cat dog " * 600] * 1000}).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one HTTP process, so that the one which is busy is the one that is asked."""
    home: Path = tmp_path_factory.mktemp("busy")
    made.cache(home, EMBEDDER, COMMIT, made.write_slow_to_run(home / "slow", 20))
    with serving(environment(home, DEFAULT_EMBEDDING_MODEL=EMBEDDER), home / "log") as running:
        running.wait_until("ready")
        yield running


def _pieces() -> Iterator[bytes]:
    """5 MB as a slow network brings them."""
    for start in range(0, len(_LONG), 65_536):
        yield _LONG[start : start + 65_536]
        time.sleep(0.005)


def _stream(client: httpx.Client) -> None:
    assert len(_LONG) > 4_500_000
    client.post("/embed", content=_pieces(), headers={**_JSON, "X-Request-Timeout-Ms": "1500"})


def _fill(client: httpx.Client) -> None:
    client.post("/embed", json={"input": ["cat"] * 2048}, headers={"X-Request-Timeout-Ms": "3000"})


def _crowd(client: httpx.Client) -> None:
    assert client.post("/embed", content=_CROWD, headers=_JSON).status_code == 413


@contextmanager
def _clients(server: Server, do: Callable[[httpx.Client], None]) -> Iterator[None]:
    """Three clients that ask without pause."""
    done = threading.Event()

    def run() -> None:
        with httpx.Client(base_url=server.client.base_url, trust_env=False, timeout=30) as client:
            while not done.is_set():
                do(client)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("do", [_stream, _fill, _crowd])
def test_liveness_answers_while_the_process_is_busy(
    server: Server, do: Callable[[httpx.Client], None]
) -> None:
    seconds = []
    with _clients(server, do):
        for _ in range(_LOOKS):
            started = time.monotonic()
            assert server.client.get("/health/live").status_code == 200
            seconds.append(time.monotonic() - started)
            time.sleep(0.02)
    assert sorted(seconds)[-2] < _BOUND_SECONDS, sorted(seconds)[-5:]
