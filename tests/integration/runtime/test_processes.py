"""Loading, crashing, draining, ending: what the processes do to each other."""

import contextlib
import os
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
    RERANKER,
    Server,
    environment,
    is_running,
    run,
    serving,
    wait_for,
)
from tests.unit.runtime import made


class Asking(threading.Thread):
    """A client that waits for one slow answer."""

    def __init__(self, server: Server, texts: int = 1) -> None:
        super().__init__()
        self._server, self._texts = server, texts
        self.answer: httpx.Response | None = None
        self.answered = 0.0
        self.start()

    def run(self) -> None:
        with contextlib.suppress(httpx.TransportError):
            self.answer = self._server.client.post("/embed", json={"input": ["cat " * 500] * self._texts})
        self.answered = time.monotonic()


def _slow(home: Path, products: int) -> None:
    made.cache(home, EMBEDDER, COMMIT, made.write_slow_to_run(home / "slow", products))


def _busy(pid: int) -> bool:
    """Whether the process has used a core since a moment ago."""

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(0.1)
    return ticks() - before >= 5


def test_liveness_answers_while_a_model_loads(tmp_path: Path) -> None:
    made.cache(tmp_path, EMBEDDER, COMMIT, made.write_slow_to_load(tmp_path / "slow", 20_000))
    # Its own graph: the engine itself builds it, and holds the interpreter's lock meanwhile.
    variables = environment(
        tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER, MODEL_LOAD_TIMEOUT_SECS="0", PREPARED_CACHE_DIR=""
    )
    with serving(variables, tmp_path / "log") as server:
        seconds, statuses = [], set()
        while (body := server.health())["status"] != "ready":
            statuses.add((body["status"], body["reason"]))
            started = time.monotonic()
            assert server.client.get("/health/live").status_code == 200
            seconds.append(time.monotonic() - started)
            answer = server.client.post("/embed", json={"input": "cat"})
            if answer.status_code == 200:  # it became ready just now
                break
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "1"
        (event,) = server.events("model ready")
    # The engine's event loop stands still for all that time; the HTTP process does not.
    assert event["seconds"] > 0.5
    assert len(seconds) > 20
    assert sorted(seconds)[-2] < event["seconds"] / 3
    assert statuses <= {("loading", "Loading"), ("loading", "EngineUnavailable")}


def test_an_answer_on_a_kept_connection_is_not_held_back(tmp_path: Path) -> None:
    made.cache(tmp_path, EMBEDDER, COMMIT, made.write_embedder(tmp_path / "small"))
    with serving(environment(tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER), tmp_path / "log") as server:
        server.wait_until("ready")
        seconds = []
        for _ in range(15):
            started = time.monotonic()
            assert server.client.get("/health/live").status_code == 200
            seconds.append(time.monotonic() - started)
    # A client acknowledges the head of an answer after 40 ms if nothing else makes it.
    assert statistics.median(seconds) < 0.03


def test_a_killed_engine_fails_its_waiters_at_once_and_comes_back(tmp_path: Path) -> None:
    _slow(tmp_path, 200)
    variables = environment(tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER, MAX_BATCH_TOKENS="512")
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        engine = server.engine()
        waiting = [Asking(server, texts=100) for _ in range(3)]
        wait_for(lambda: _busy(engine), "the engine to compute")
        killed = time.monotonic()
        os.kill(engine, signal.SIGKILL)
        for client in waiting:
            client.join()
            assert client.answer is not None
            assert client.answer.status_code == 503
            assert client.answer.json()["error"]["code"] == "EngineUnavailable"
            assert client.answered - killed < 2
        assert server.client.get("/health/live").status_code == 200
        server.wait_until("ready")
        assert server.engine() != engine
        assert server.client.post("/embed", json={"input": "cat"}).status_code == 200
        assert "\nmodels_loaded_total 1.0" in server.client.get("/metrics").text


def test_a_killed_http_process_is_replaced(made_server: Server) -> None:
    first, second = made_server.workers()
    made_server.client.post("/embed", json={"input": "cat"})
    made_server.client.close()
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: len(made_server.workers()) == 2 and first not in made_server.workers(), "a new process")
    assert second in made_server.workers()
    made_server.client = httpx.Client(base_url=made_server.client.base_url, trust_env=False)
    made_server.wait_until("ready")


def test_sigterm_lets_requests_finish_and_ends_with_0(tmp_path: Path) -> None:
    _slow(tmp_path, 200)
    variables = environment(tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER)
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        engine, children = server.engine(), list(server.children())
        waiting = Asking(server, texts=20)
        wait_for(lambda: _busy(engine), "the engine to compute")
        asked = time.monotonic()
        assert server.stop() == 0
        waiting.join()
        assert waiting.answer is not None
        assert waiting.answer.status_code == 200
        assert waiting.answered > asked
        assert not any(is_running(pid) for pid in children)
        assert list((tmp_path / "tmp").iterdir()) == []


def test_what_does_not_finish_in_time_is_cut_off(tmp_path: Path) -> None:
    _slow(tmp_path, 200)
    variables = environment(tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER, SHUTDOWN_TIMEOUT_SECS="1")
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        waiting = Asking(server, texts=1000)
        engine = server.engine()
        wait_for(lambda: _busy(engine), "the engine to compute")
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 10
        waiting.join()


def test_no_process_outlives_the_supervisor(made_server: Server) -> None:
    children = list(made_server.children())
    assert len(children) == 3
    made_server.process.kill()
    made_server.process.wait(10)
    wait_for(lambda: not any(is_running(pid) for pid in children), "the children to end", 5)


def test_a_signal_to_the_terminals_group_reaches_the_supervisor_alone(tmp_path: Path) -> None:
    made.cache(tmp_path, EMBEDDER, COMMIT, made.write_embedder(tmp_path / "m"))
    with serving(environment(tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER), tmp_path / "log") as server:
        server.wait_until("ready")
        groups = {os.getpgid(pid) for pid in server.children()}
        assert os.getpgid(server.process.pid) not in groups


def test_a_port_in_use_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = run("serve", environment(tmp_path, API_PORT=str(port)))
    assert told.returncode == 2
    assert (
        told.stderr
        == f"error: cannot listen on 127.0.0.1:{port}: Address already in use (API_HOST, API_PORT)\n"
    )
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_temporary_folder_that_is_too_deep_for_a_socket_is_told(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    told = run("serve", environment(tmp_path, TMPDIR=str(deep)))
    assert told.returncode == 2
    assert told.stderr.startswith(f"error: TMPDIR={deep}: allowed is a path of at most")


def test_bad_settings_are_one_line_each_and_exit_code_2(tmp_path: Path) -> None:
    told = run("serve", environment(tmp_path, API_PORT="x", API_WORKERS="none"))
    assert told.returncode == 2
    assert [line.partition("=")[0] for line in told.stderr.splitlines()] == [
        "error: API_PORT",
        "error: API_WORKERS",
    ]


@pytest.mark.parametrize(
    ("variables", "reason", "words"),
    [
        ({"DEFAULT_EMBEDDING_MODEL": "org/absent"}, "NotCached", "prefetch"),
        ({"DEFAULT_EMBEDDING_MODEL": f"{EMBEDDER}@{'f' * 40}"}, "NotCached", "f" * 40),
        ({"DEFAULT_EMBEDDING_MODEL": RERANKER}, "TaskMismatch", "is a reranker"),
        (
            {"DEFAULT_EMBEDDING_MODEL": EMBEDDER, "EXPECTED_FINGERPRINT": "e" * 64},
            "FingerprintMismatch",
            "e" * 64,
        ),
        (
            {"DEFAULT_EMBEDDING_MODEL": EMBEDDER, "MODEL_FILE": "onnx/other.onnx"},
            "UnsupportedModel",
            "other.onnx",
        ),
    ],
)
def test_a_model_that_cannot_be_served_is_told_by_readiness_alone(
    home: Path, variables: dict[str, str], reason: str, words: str
) -> None:
    with serving(environment(home, **variables), home / "log") as server:
        body = server.wait_until("load_failed")
        assert body["reason"] == reason
        assert words in body["message"]
        assert server.client.get("/health/ready").status_code == 503
        assert server.client.get("/health/live").status_code == 200
        answer = server.client.post("/embed", json={"input": "cat"})
        assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "false")
        assert server.events("process ended unexpectedly") == []


def test_the_expected_fingerprint_is_the_one_that_readiness_tells(home: Path) -> None:
    with serving(environment(home, DEFAULT_EMBEDDING_MODEL=EMBEDDER), home / "log") as server:
        (model,) = server.wait_until("ready")["models"]
    variables = environment(home, DEFAULT_EMBEDDING_MODEL=EMBEDDER, EXPECTED_FINGERPRINT=model["fingerprint"])
    with serving(variables, home / "log") as server:
        server.wait_until("ready")
