"""Several models in one server: loaded when they are named, once, beside the others; unloaded; refused."""

import concurrent.futures
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.integration.runtime.odd_hub import OddHandler, OddHub, odd_hub
from tests.integration.runtime.server import (
    COMMIT,
    EMBEDDER,
    RERANKER,
    Server,
    environment,
    serving,
    wait_for,
)
from tests.unit.runtime import made

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
CROSS_ENCODER = "embedding-operator/bert-tiny-cross-encoder"
SECOND = "org/second"


@pytest.fixture
def made_hub(tmp_path: Path) -> Iterator[OddHub]:
    """A hub with made models, whose every answer can be held back."""
    root = tmp_path / "hub-root"
    made.write_embedder(root / EMBEDDER)
    made.write_embedder(root / SECOND)
    made.write_reranker(root / RERANKER)
    made.write_reranker(root / "org/classifier", labels=3)
    made.write_slow_to_load(root / "org/slow", 30_000)
    with odd_hub(root) as hub:
        yield hub


def _online(home: Path, endpoint: str, **variables: str) -> dict[str, str]:
    return environment(home, HF_HUB_OFFLINE="0", HF_ENDPOINT=endpoint, ALLOWED_MODELS="*", **variables)


def _embed(server: Server, model: str | None = None, text: str = "red cat") -> httpx.Response:
    return server.client.post("/embed", json={"input": text, "model": model})


def _error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def _value(server: Server, metric: str) -> float:
    found = re.search(rf"^{re.escape(metric)} (\S+)$", server.client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


class Gate:
    """Holds back a hub's answers about one model until it is opened."""

    def __init__(self, hub: OddHub, model: str) -> None:
        self._hub, self._model, self._open = hub, model, threading.Event()
        hub.fault = self._hold

    def _hold(self, handler: OddHandler) -> bool:
        if self._model in handler.path:
            self._open.wait(60)
        return False

    @property
    def asked(self) -> int:
        """How often the hub was asked about the model."""
        return sum(self._model in asked.path for asked in self._hub.asked)

    def open(self) -> None:
        """Let everything pass."""
        self._open.set()


def test_real_models_are_fetched_and_loaded_when_they_are_named(tmp_path: Path, hub: str) -> None:
    variables = _online(tmp_path, hub)
    del variables["ALLOWED_MODELS"]
    variables["ALLOWED_MODELS"] = "sentence-transformers/*,embedding-operator/*"
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        answer = _embed(server, MINILM)
        assert answer.status_code == 200
        (row,) = answer.json()["embeddings"]
        assert len(row) == 384
        assert answer.headers["Server-Timing"].startswith("load;dur=")
        body = {"query": "cat", "documents": ["a cat", "a dog"], "model": CROSS_ENCODER}
        assert server.client.post("/rerank", json=body).status_code == 200
        assert _value(server, "models_loaded_total") == 2
        assert _value(server, f'model_memory_bytes{{model="{MINILM}"}}') > 80 << 20
        assert _value(server, f'model_state{{model="{MINILM}",state="ready"}}') == 1
        # The same model by its commit is not loaded again.
        commit = server.events("model ready")[0]["commit"]
        np.testing.assert_array_equal(_embed(server, f"{MINILM}@{commit}").json()["embeddings"], [row])
        assert len(server.events("model ready")) == 2


def test_concurrent_first_uses_load_once_and_in_all_http_processes(tmp_path: Path, made_hub: OddHub) -> None:
    variables = _online(tmp_path, made_hub.endpoint, API_WORKERS="2")
    gate = Gate(made_hub, SECOND)
    with serving(variables, tmp_path / "log") as server, concurrent.futures.ThreadPoolExecutor(12) as pool:
        server.wait_until("ready")
        answers = [
            pool.submit(httpx.post, f"{server.client.base_url}/embed", json={"input": "cat", "model": SECOND},
                        timeout=60, trust_env=False)
            for _ in range(12)
        ]  # fmt: skip
        wait_for(lambda: gate.asked > 0, "the hub to be asked")
        gate.open()
        assert [answer.result().status_code for answer in answers] == [200] * 12
        assert len(server.events("model ready")) == 1


def test_a_model_that_is_being_fetched_holds_up_no_other(tmp_path: Path, made_hub: OddHub) -> None:
    variables = _online(tmp_path, made_hub.endpoint, DEFAULT_EMBEDDING_MODEL=EMBEDDER)
    with serving(variables, tmp_path / "log") as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        server.wait_until("ready")
        gate = Gate(made_hub, SECOND)
        first = pool.submit(_embed, server, SECOND)
        wait_for(lambda: gate.asked > 0, "the hub to be asked")
        for _ in range(20):
            assert _embed(server).status_code == 200
        assert not first.done()
        gate.open()
        assert first.result().status_code == 200


def test_who_waited_long_enough_is_told_to_come_back_and_loading_goes_on(
    tmp_path: Path, made_hub: OddHub
) -> None:
    gate = Gate(made_hub, SECOND)
    variables = _online(tmp_path, made_hub.endpoint, MODEL_LOAD_TIMEOUT_SECS="0.3")
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        started = time.monotonic()
        answer = _embed(server, SECOND)
        assert 0.3 <= time.monotonic() - started < 5
        assert _error(answer) == (503, "Loading")
        assert int(answer.headers["Retry-After"]) >= 1
        assert "x-should-retry" not in answer.headers
        gate.open()
        wait_for(lambda: _embed(server, SECOND).status_code == 200, "the model")
        assert len(server.events("model ready")) == 1


def test_a_failed_load_is_remembered(tmp_path: Path, made_hub: OddHub) -> None:
    with serving(_online(tmp_path, made_hub.endpoint), tmp_path / "log") as server:
        server.wait_until("ready")
        gate = Gate(made_hub, "org/absent")
        gate.open()
        answers = [_embed(server, "org/absent") for _ in range(5)]
        assert {_error(answer) for answer in answers} == {(404, "UnknownModel")}
        assert gate.asked == 1
        gate = Gate(made_hub, f"{SECOND}/revision/v9")
        gate.open()
        assert [_error(_embed(server, f"{SECOND}@v9")) for _ in range(3)] == [(404, "UnknownModel")] * 3
        assert gate.asked == 1
        assert _value(server, 'model_load_failures_total{model="unknown",reason="ModelNotFound"}') == 1
        assert "org/absent" not in server.client.get("/metrics").text


def test_a_hub_that_is_down_is_asked_again_later_and_says_when(tmp_path: Path, made_hub: OddHub) -> None:
    made_hub.fault = lambda handler: handler.refuse(503)
    with serving(_online(tmp_path, made_hub.endpoint), tmp_path / "log") as server:
        server.wait_until("ready")
        answer = _embed(server, SECOND)
        assert _error(answer) == (503, "LoadFailed")
        assert int(answer.headers["Retry-After"]) >= 1
        assert "x-should-retry" not in answer.headers
        made_hub.fault = None
        wait_for(lambda: _embed(server, SECOND).status_code == 200, "the model")


def test_a_model_that_cannot_be_served_is_the_requests_mistake(tmp_path: Path, made_hub: OddHub) -> None:
    with serving(_online(tmp_path, made_hub.endpoint), tmp_path / "log") as server:
        server.wait_until("ready")
        answer = _embed(server, "org/classifier")
        assert _error(answer) == (400, "Unsupported")
        assert "3 labels" in answer.json()["error"]["message"]
        # What nobody could know beforehand: the task shows when it is loaded.
        answer = _embed(server, RERANKER)
        assert _error(answer) == (400, "WrongTask")
        body = {"query": "cat", "documents": ["a"], "model": RERANKER}
        assert server.client.post("/rerank", json=body).status_code == 200


def _models_file(folder: Path, content: str) -> str:
    path = folder / "models.yaml"
    path.write_text(content)
    return str(path)


def test_names_aliases_revisions_and_tasks(home: Path, tmp_path: Path) -> None:
    made.write_embedder(tmp_path / "local", max_tokens=8)
    config = _models_file(
        tmp_path,
        f"""
models:
  - {{id: {EMBEDDER}, served_names: [text-embedding-3-small, minilm]}}
  - {{id: team/local, path: {tmp_path / "local"}, served_names: [local]}}
""",
    )
    variables = environment(
        home, DEFAULT_EMBEDDING_MODEL="minilm", DEFAULT_RERANKING_MODEL=RERANKER, MODELS_CONFIG=config
    )
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        for name in (
            None,
            EMBEDDER,
            "minilm",
            "text-embedding-3-small",
            f"minilm@{COMMIT}",
            f"{EMBEDDER}@main",
        ):
            answer = _embed(server, name)
            assert (answer.status_code, answer.json()["model"]) == (200, EMBEDDER)
        assert len(server.events("model ready")) == 2
        answer = _embed(server, "local", "red " * 20)
        assert (answer.json()["model"], answer.json()["usage"]["total_tokens"]) == ("team/local", 8)
        for name, expected in (
            (RERANKER, (400, "WrongTask")),
            ("minilm@v9", (404, "UnknownModel")),
            ("local@main", (404, "UnknownModel")),
            ("org/embeder", (404, "UnknownModel")),
        ):
            assert _error(_embed(server, name)) == expected
        assert "the nearest is 'org/embedder'" in _embed(server, "org/embeder").json()["error"]["message"]
        label = 'inference_embed_requests_total{model="unknown",status="failure"}'
        assert _value(server, label) == 2


def _listed(server: Server) -> dict[str, Any]:
    """GET /models?detail=true, by the models' names."""
    body = server.client.get("/models", params={"detail": "true"}).json()
    return {entry["model"]: entry for entry in body["models"]}


def test_a_budget_unloads_the_least_recently_used_and_default_models_stay(tmp_path: Path) -> None:
    others = [f"org/m{n}" for n in range(3)]
    for name in (EMBEDDER, *others):
        made.cache(tmp_path, name, COMMIT, made.write_slow_to_run(tmp_path / "m", 1, width=1024))
    variables = environment(
        tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER, MAX_BATCH_TOKENS="16", ALLOWED_MODELS="org/*"
    )
    # The first server also bears what preparing a graph takes; the second one finds it prepared.
    for log in ("log", "log1"):
        with serving(variables, tmp_path / log) as server:
            server.wait_until("ready")
            assert _embed(server, others[0]).status_code == 200
            details = server.client.get("/models?detail=true").json()["models"]
    # The first model also bears what the library takes once.
    first, other = (detail["memory_bytes"] for detail in details if detail["memory_bytes"])
    assert min(first, other) > 4 << 20
    variables["MODEL_MEMORY_BUDGET_BYTES"] = str(int(first + 1.6 * other))
    with serving(variables, tmp_path / "log2") as server:
        server.wait_until("ready")
        for name in others:
            assert _embed(server, name).status_code == 200
        wait_for(lambda: bool(server.events("model unloaded")), "a model that makes room")
        unloaded = [event["model"] for event in server.events("model unloaded")]
        assert unloaded[0] == others[0]
        assert EMBEDDER not in unloaded
        assert _embed(server).status_code == 200
        wait_for(
            lambda: _value(server, f'model_evictions_total{{model="{others[0]}",reason="budget"}}') == 1,
            "the metric",
        )
        assert _value(server, f'model_state{{model="{others[0]}",state="available"}}') == 1
        assert _value(server, f'model_memory_bytes{{model="{others[0]}"}}') == 0
        # It comes back when it is named again.
        assert _embed(server, others[0]).status_code == 200
    variables["MODEL_MEMORY_BUDGET_BYTES"] = "1000000"
    with serving(variables, tmp_path / "log3") as server:
        server.wait_until("ready")
        answer = _embed(server, others[0])
        assert _error(answer) == (503, "OutOfMemory")
        assert "MODEL_MEMORY_BUDGET_BYTES" in answer.json()["error"]["message"]
        assert int(answer.headers["Retry-After"]) >= 1
        assert _listed(server)[others[0]]["state"] == "exhausted"
        assert _embed(server).status_code == 200


def test_an_idle_model_is_unloaded_and_gives_its_memory_back(tmp_path: Path, hub: str) -> None:
    made.cache(tmp_path, EMBEDDER, COMMIT, made.write_embedder(tmp_path / "small"))
    variables = _online(
        tmp_path,
        hub,
        DEFAULT_EMBEDDING_MODEL=f"{EMBEDDER}@{COMMIT}",
        MODEL_IDLE_SECS="1.5",
        MAX_BATCH_TOKENS="64",
    )
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        # The first time also the hub's client is imported, which stays.
        for times in (1, 2):
            assert _embed(server, MINILM).status_code == 200
            loaded = _resident(server.engine())
            wait_for(lambda: len(server.events("model unloaded")) == times, "the model to be unloaded")  # noqa: B023
            event = server.events("model unloaded")[-1]
            assert (event["model"], event["reason"]) == (MINILM, "idle")
            wait_for(lambda: loaded - _resident(server.engine()) > 45 << 20, "the memory", 10)  # noqa: B023
        assert _embed(server).status_code == 200


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_requests_never_notice_that_a_model_comes_and_goes(tmp_path: Path) -> None:
    for name in ("org/a", "org/b"):
        made.cache(tmp_path, name, COMMIT, made.write_embedder(tmp_path / "m"))
    variables = environment(tmp_path, MODEL_MEMORY_BUDGET_BYTES="3000000", MODEL_IDLE_SECS="0.05")
    with serving(variables, tmp_path / "log") as server, concurrent.futures.ThreadPoolExecutor(4) as pool:
        server.wait_until("ready")
        ask: Callable[[int], int] = lambda n: _embed(server, f"org/{'ab'[n % 2]}").status_code  # noqa: E731
        statuses = list(pool.map(ask, range(120)))
        assert set(statuses) == {200}


@pytest.mark.parametrize("allowed", [False, True])
def test_a_cuda_that_is_not_there_is_told_and_answers_on_the_cpu(home: Path, allowed: bool) -> None:
    variables = environment(
        home,
        DEFAULT_EMBEDDING_MODEL=EMBEDDER,
        ORT_EXECUTION_PROVIDER="cuda",
        ALLOW_CPU_FALLBACK=str(allowed).lower(),
    )
    with serving(variables, home / "log") as server:
        body = server.wait_until("ready" if allowed else "load_failed")
        if not allowed:
            assert body["reason"] == "ProviderUnavailable"
            assert "CUDA requested but not available" in body["message"]
            assert server.client.get("/health/ready").status_code == 503
        assert _embed(server).status_code == 200
        (event,) = server.events("CUDA requested but not available, falling back to CPU")
        assert event["level"] == "warning"
        assert "no CUDA provider" in event["reason"]
        assert _value(server, f'model_provider_fallbacks_total{{model="{EMBEDDER}"}}') == 1
        provider = f'model_provider_info{{model="{EMBEDDER}",precision="fp32",provider="cpu"}}'
        assert _value(server, provider) == 1
        assert "gpu_memory" not in server.client.get("/metrics").text
