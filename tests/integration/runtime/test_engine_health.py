"""An engine that stands still or dies is noticed, told of and replaced; the port for metrics."""

import os
import re
import signal
import socket
import statistics
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
    is_running,
    run,
    serving,
    wait_for,
)
from tests.unit.runtime import made

SLOW = "org/slow"
BUILT_HERE = {"PREPARED_CACHE_DIR": ""}
"""The engine builds the long graph itself; preparing it takes longer still, but in another process."""


def _embed(server: Server, model: str | None = None) -> httpx.Response:
    return server.client.post("/embed", json={"input": "red cat", "model": model})


def _restarts(server: Server, reason: str) -> float:
    text = server.client.get("/metrics").text
    found = re.search(rf'^engine_restarts_total{{reason="{reason}"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    made.cache(tmp_path, EMBEDDER, COMMIT, made.write_embedder(tmp_path / "small"))
    return environment(tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER, ENGINE_HANG_SECS="2", ALLOWED_MODELS="*")


def test_a_stopped_engine_is_noticed_and_replaced_and_its_waiters_get_503(
    variables: dict[str, str], tmp_path: Path
) -> None:
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        engine = server.engine()
        os.kill(engine, signal.SIGSTOP)
        stopped = time.monotonic()
        answer = _embed(server)
        assert 1 < time.monotonic() - stopped < 10
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "EngineUnavailable")
        assert answer.headers["Retry-After"] == "1"
        assert server.client.get("/health/live").status_code == 200
        wait_for(lambda: not is_running(engine), "the engine's end")
        server.wait_until("ready")
        assert server.engine() != engine
        assert _embed(server).status_code == 200
        (event,) = server.events("the engine hangs, killing it")
        assert (event["hangs_in"], event["pid"]) == ("its event loop", engine)
        assert (_restarts(server, "hung"), _restarts(server, "crashed")) == (1, 0)
        os.kill(server.engine(), signal.SIGKILL)
        wait_for(lambda: _restarts(server, "crashed") == 1, "the restart to be counted")
        server.wait_until("ready")


def test_an_engine_that_waits_or_builds_for_long_is_not_taken_for_hung(
    variables: dict[str, str], tmp_path: Path
) -> None:
    made.cache(tmp_path, SLOW, COMMIT, made.write_slow_to_load(tmp_path / "slow", 60_000))
    variables |= {"ENGINE_HANG_SECS": "1", **BUILT_HERE}
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        assert _embed(server, SLOW).status_code == 200
        (event,) = [event for event in server.events("model ready") if event["model"] == SLOW]
        # Longer than a look and the patience together, with the interpreter's lock held.
        assert event["seconds"] > 2
        assert server.events("the engine hangs, killing it") == []
        assert server.events("process ended unexpectedly") == []


def test_building_a_model_holds_others_up_no_longer_than_it_takes(
    variables: dict[str, str], tmp_path: Path
) -> None:
    made.cache(tmp_path, SLOW, COMMIT, made.write_slow_to_load(tmp_path / "slow", 20_000))
    with serving(variables | BUILT_HERE, tmp_path / "log") as server:
        server.wait_until("ready")
        loading = threading.Thread(target=_embed, args=(server, SLOW))
        loading.start()
        seconds = []
        while loading.is_alive():
            started = time.monotonic()
            assert _embed(server).status_code == 200
            seconds.append(time.monotonic() - started)
        loading.join()
        (event,) = [event for event in server.events("model ready") if event["model"] == SLOW]
    assert max(seconds) < event["seconds"] + 0.5
    assert statistics.median(seconds) < event["seconds"] / 4


def test_metrics_have_a_port_of_their_own(variables: dict[str, str], tmp_path: Path) -> None:
    with serving({**variables, "METRICS_PORT": "0"}, tmp_path / "log") as server:
        (event,) = server.events("listening")
        assert event["metrics_port"] != event["port"]
        wait_for(
            lambda: (
                "models_loaded_total"
                in httpx.get(f"http://127.0.0.1:{event['metrics_port']}/metrics", trust_env=False).text
            ),
            "the metrics",
        )


def test_a_metrics_port_in_use_is_one_line_that_names_it(variables: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = run("serve", {**variables, "METRICS_PORT": str(port)})
    assert told.returncode == 2
    assert (
        told.stderr
        == f"error: cannot listen on 127.0.0.1:{port}: Address already in use (API_HOST, METRICS_PORT)\n"
    )


def test_an_engine_that_dies_while_the_server_drains_is_replaced(
    variables: dict[str, str], tmp_path: Path
) -> None:
    with serving({**variables, "DRAIN_DELAY_SECS": "6"}, tmp_path / "log") as server:
        server.wait_until("ready")
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: bool(server.events("stopping")), "the server to drain")
        os.kill(server.engine(), signal.SIGKILL)

        def answers() -> bool:
            with httpx.Client(base_url=server.client.base_url, trust_env=False) as client:
                return client.post("/embed", json={"input": "cat"}).status_code == 200

        wait_for(lambda: len(server.events("model ready")) == 2 and answers(), "an answer", 5.5)
        assert server.process.wait(20) == 0
