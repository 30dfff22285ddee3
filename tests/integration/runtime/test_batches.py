"""What the engine makes of real texts, counted instead of timed, over HTTP."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import corpus
from bench.load import Closed, drive, post
from bench.measures import split
from tests.integration.runtime.server import Server, environment, serving

MODEL = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture
def server(real_models: Path, tmp_path: Path) -> Iterator[Server]:
    config = tmp_path / "models.yaml"
    config.write_text(f"models: [{{id: {MODEL}, path: {real_models / MODEL}}}]")
    variables = environment(tmp_path, MODELS_CONFIG=str(config), DEFAULT_EMBEDDING_MODEL=MODEL)
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        yield server


def _total(metrics: str, name: str) -> float:
    found = re.search(rf"^{name}{{.*}} (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_little_of_what_is_computed_is_padding(server: Server, real_models: Path) -> None:
    texts = corpus.read(real_models / MODEL / "tokenizer.json").first(512)
    requests = split(texts.texts, 256, lambda some: post("/embed", {"input": list(some)}, len(some)))
    drive(("127.0.0.1", server.client.base_url.port or 0), Closed(requests, 2))

    metrics = server.client.get("/metrics").text
    tokens = _total(metrics, "inference_tokens_total")
    assert tokens == sum(texts.lengths)
    assert _total(metrics, "inference_padding_tokens_total") / tokens < 0.05
