"""Real models through the real server: the vectors and scores are those that PyTorch computes."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.texts import QUERIES, TEXTS

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
RERANKER = "embedding-operator/bert-tiny-cross-encoder"
START_SECONDS = 60.0


@pytest.fixture(scope="module")
def server(hub: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prefetch both models from the hub, serve them offline as a pod does, and return the address."""
    home = tmp_path_factory.mktemp("hf-home")
    runtime = [sys.executable, "-m", "embedding_runtime"]
    base = {**os.environ, "HF_HOME": str(home), "LOG_FORMAT": "text"}
    told = {}
    for model in (MINILM, RERANKER):
        message = home / "termination-message"
        variables = {"MODEL_ID": model, "HF_ENDPOINT": hub, "TERMINATION_MESSAGE_PATH": str(message)}
        subprocess.run([*runtime, "prefetch"], env=base | variables, check=True, timeout=100)
        told[model] = json.loads(message.read_text())
        assert told[model]["status"] == "ok"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {
        "API_HOST": "127.0.0.1",
        "API_PORT": str(port),
        "API_WORKERS": "1",
        "HF_HUB_OFFLINE": "1",
        "DEFAULT_EMBEDDING_MODEL": f"{MINILM}@{told[MINILM]['commit']}",
        "DEFAULT_RERANKING_MODEL": f"{RERANKER}@{told[RERANKER]['commit']}",
    }
    with subprocess.Popen([*runtime, "serve"], env=base | variables) as process:
        address = f"http://127.0.0.1:{port}"
        _wait_ready(address)
        yield address
        process.terminate()
        assert process.wait(timeout=40) == 0


def _wait_ready(address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/health/ready", timeout=5):
                return
        except OSError:  # an answer of 503 too
            time.sleep(0.1)
    raise AssertionError(f"not ready within {START_SECONDS} s")


def _post(url: str, body: Any) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_vectors_are_those_of_sentence_transformers(server: str) -> None:
    golden = np.load(GOLDEN / "all-MiniLM-L6-v2.npy")
    vectors = np.array(_post(f"{server}/embed", {"input": TEXTS})["embeddings"], np.float32)
    assert vectors.shape == golden.shape
    cosines = (vectors * golden).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(golden, axis=1)
    worst = int(cosines.argmin())
    assert cosines.min() >= 0.99999, (TEXTS[worst][:80], cosines[worst])
    assert np.abs(vectors - golden).max() <= 1e-5


def test_a_text_alone_has_the_vector_that_it_has_among_others(server: str) -> None:
    golden = np.load(GOLDEN / "all-MiniLM-L6-v2.npy")
    for index in (0, 24, 27, len(TEXTS) - 1):
        (vector,) = _post(f"{server}/embed", {"input": TEXTS[index]})["embeddings"]
        np.testing.assert_allclose(vector, golden[index], atol=1e-5)


def test_scores_are_those_of_the_cross_encoder(server: str) -> None:
    golden = json.loads((GOLDEN / "bert-tiny-cross-encoder.json").read_text())
    for (query, documents), raw in zip(QUERIES, golden, strict=True):
        results = _post(f"{server}/rerank", {"query": query, "documents": documents})["results"]
        scores = {entry["index"]: entry["score"] for entry in results}
        expected = 1 / (1 + np.exp(-np.array(raw)))
        np.testing.assert_allclose([scores[index] for index in range(len(raw))], expected, atol=1e-4)
