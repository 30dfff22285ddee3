"""What a real server answers, with models whose every answer can be computed by hand."""

import re
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

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

TEXTS = ["red cat", "blue dog runs quickly", "", "bird", "green " * 40, "unheard of"]


def _embed(server: Server, texts: list[str] | str, **more: Any) -> httpx.Response:
    return server.client.post("/embed", json={"input": texts, **more})


def test_vectors_scores_usage_and_names(shared_server: Server) -> None:
    answer = _embed(shared_server, TEXTS)
    assert answer.status_code == 200
    body = answer.json()
    expected = [made.embedding(" ".join(text.split()[:14])) for text in TEXTS]
    np.testing.assert_allclose(body["embeddings"], np.array(expected), atol=1e-6)
    assert body["model"] == EMBEDDER
    # words and the two special tokens of each text, the long one cut to 16
    assert body["usage"] == {"total_tokens": 4 + 6 + 2 + 3 + 16 + 4}
    assert answer.headers["X-Model-Fingerprint"] == shared_server.health()["models"][0]["fingerprint"]

    documents = ["red", "dog runs", "quickly slowly"]
    for model in (None, RERANKER, f"{RERANKER}@{COMMIT}"):
        body = {"query": "cat", "documents": documents, "model": model, "top_n": 2}
        found = shared_server.client.post("/rerank", json=body).json()
        scores = [1 / (1 + np.exp(-made.logit(document))) for document in documents]
        best = sorted(range(3), key=lambda index: -scores[index])[:2]
        assert [result["index"] for result in found["results"]] == best
        assert [result["text"] for result in found["results"]] == [documents[index] for index in best]
        np.testing.assert_allclose(
            [result["score"] for result in found["results"]], [scores[i] for i in best], rtol=1e-5
        )


def test_many_texts_at_once_and_one_by_one_are_the_same(shared_server: Server) -> None:
    texts = [" ".join(made.WORDS[: 1 + n % 10]) for n in range(300)]
    rows = np.array(_embed(shared_server, texts).json()["embeddings"])
    for index in (0, 7, 299):
        (alone,) = _embed(shared_server, texts[index]).json()["embeddings"]
        np.testing.assert_allclose(rows[index], alone, atol=1e-6)


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "words"),
    [
        ("/embed", {"input": "x", "model": "no/such"}, 404, "UnknownModel", f"{EMBEDDER}, {RERANKER}"),
        ("/embed", {"input": "x", "model": RERANKER}, 400, "WrongTask", "/rerank"),
        ("/rerank", {"query": "q", "documents": ["d"], "model": EMBEDDER}, 400, "WrongTask", "/embed"),
        ("/embed", {"input": ["x"] * 2049}, 413, "TooManyInputs", "2048"),
        ("/rerank", {"query": "q", "documents": ["x"] * 2049}, 413, "TooManyInputs", "2048"),
        ("/rerank", {"query": "cat " * 20, "documents": ["d"]}, 413, "QueryTooLong", "20 tokens; 12"),
        ("/embed", {"input": []}, 422, "InvalidRequest", "input"),
        ("/embed", {"input": ["x", 1]}, 422, "InvalidRequest", "input.1"),
    ],
)
def test_what_cannot_be_answered_is_told(
    shared_server: Server, path: str, body: dict[str, Any], status: int, code: str, words: str
) -> None:
    answer = shared_server.client.post(path, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (rb'{"input": "\ud800"}', 400),
        (b'{"input": "\xff"}', 400),
        (b'{"input": "a\x00b"}', 400),
        (rb'{"input": "a\u0000b"}', 200),
        (b"[" * 5000, 400),
        (b'{"input": NaN}', 422),
        (b'{"input": "cat", "unheard": "of"}', 200),
        (b'{"input": "' + b"cat " * 200_000 + b'"}', 200),
        (b'{"input": "' + b"c" * 11_000_000 + b'"}', 413),
    ],
)
def test_odd_bodies_are_answered(shared_server: Server, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    assert shared_server.client.post("/embed", content=body, headers=headers).status_code == status


def test_metrics_of_all_processes_come_in_one_scrape(made_server: Server) -> None:
    # A client without keep-alive, so that both HTTP processes get some.
    for _ in range(20):
        with httpx.Client(base_url=made_server.client.base_url, trust_env=False) as fresh:
            assert fresh.post("/embed", json={"input": ["cat", "dog"]}).status_code == 200
            fresh.post("/rerank", json={"query": "q", "documents": ["d"]})
            fresh.post("/embed", json={"input": "x", "model": "made-up-by-a-client"})
    text = made_server.client.get("/metrics").text
    for line in (
        f'inference_embed_requests_total{{model="{EMBEDDER}",status="success"}} 20.0',
        'inference_embed_requests_total{model="unknown",status="failure"} 20.0',
        f'inference_embed_items_total{{model="{EMBEDDER}"}} 40.0',
        f'inference_embed_duration_seconds_count{{model="{EMBEDDER}"}} 20.0',
        f'inference_rerank_requests_total{{model="{RERANKER}",status="success"}} 20.0',
        f'inference_rerank_duration_seconds_count{{model="{RERANKER}"}} 20.0',
        f'model_load_duration_seconds_count{{model="{EMBEDDER}"}} 1.0',
        f'model_memory_bytes{{model="{EMBEDDER}"}} ',
        "models_loaded_total 2.0",
        "cpu_usage_percent ",
    ):
        assert f"\n{line}" in text
    assert "made-up-by-a-client" not in text


def test_a_mounted_cache_is_never_written_to(home: Path) -> None:
    before = sorted((path, path.lstat().st_mtime_ns) for path in (home / "hub").rglob("*"))
    with serving(environment(home, DEFAULT_EMBEDDING_MODEL=EMBEDDER), home / "log") as server:
        server.wait_until("ready")
        assert _embed(server, "cat").status_code == 200
        assert server.stop() == 0
    assert sorted((path, path.lstat().st_mtime_ns) for path in (home / "hub").rglob("*")) == before
    assert list((home / "tmp").iterdir()) == []


def test_a_full_queue_answers_429_with_retry_after(tmp_path: Path) -> None:
    made.cache(tmp_path, EMBEDDER, COMMIT, made.write_slow_to_run(tmp_path / "slow", 200))
    variables = environment(tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER, MAX_QUEUE_TOKENS="600")
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        statuses: list[httpx.Response] = []

        def ask() -> None:
            statuses.append(_embed(server, "cat " * 500))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    refused = [answer for answer in statuses if answer.status_code == 429]
    assert refused
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert {answer.status_code for answer in statuses} == {200, 429}


def test_a_client_that_leaves_makes_room(tmp_path: Path) -> None:
    made.cache(tmp_path, EMBEDDER, COMMIT, made.write_slow_to_run(tmp_path / "slow", 200))
    variables = environment(tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER, MAX_BATCH_TOKENS="512")
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        with pytest.raises(httpx.ReadTimeout):
            server.client.post("/embed", json={"input": ["cat " * 500] * 400}, timeout=1.0)
        failed = f'inference_embed_requests_total{{model="{EMBEDDER}",status="failure"}} 1.0'
        wait_for(lambda: failed in server.client.get("/metrics").text, "the request to be given up", 5)
        # 400 texts take the better part of a minute; a single one waits for the batch that runs.
        assert server.client.post("/embed", json={"input": "cat"}, timeout=20.0).status_code == 200


def test_a_query_is_answered_while_bulk_waits_and_refuses_more_of_its_kind(tmp_path: Path) -> None:
    made.cache(tmp_path, EMBEDDER, COMMIT, made.write_slow_to_run(tmp_path / "slow", 200))
    variables = environment(tmp_path, DEFAULT_EMBEDDING_MODEL=EMBEDDER, MAX_QUEUE_WAIT_MS="1")
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        bulk: list[httpx.Response] = []
        ingest = threading.Thread(
            target=lambda: bulk.append(server.client.post("/embed", json={"input": ["cat " * 100] * 100}))
        )
        ingest.start()
        wait_for(lambda: _waiting(server, "bulk") > 0, "the bulk to wait", 20)
        refused = server.client.post("/embed", json={"input": "cat"}, headers={"X-Priority": "bulk"})
        query = _embed(server, "cat")
        assert _waiting(server, "bulk") > 0, "the query was answered after the bulk"
        ingest.join()
        wait_for(lambda: _came_to_a_batch(server) == {"interactive": 1, "bulk": 1}, "both to be counted", 5)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1
    assert query.status_code == 200
    assert [answer.status_code for answer in bulk] == [200]


def _came_to_a_batch(server: Server) -> dict[str, float]:
    """How many requests of each class did; told after their answers."""
    text = server.client.get("/metrics").text
    name = rf'inference_queue_wait_seconds_count{{model="{EMBEDDER}",priority="(\w+)"}} (\S+)'
    return {priority: float(count) for priority, count in re.findall(name, text)}


def _waiting(server: Server, priority: str) -> float:
    """The tokens of a class that wait in the engine."""
    name = f'inference_queue_tokens{{priority="{priority}"}} '
    lines = server.client.get("/metrics").text.splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))
