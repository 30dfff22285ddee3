"""Servers over small made models, for the tests of the runtime's processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.runtime.server import COMMIT, EMBEDDER, RERANKER, Server, environment, serving
from tests.unit.runtime import made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An HF_HOME that holds a made embedding model and a made reranker."""
    made.cache(tmp_path, EMBEDDER, COMMIT, made.write_embedder(tmp_path / "embedder"))
    made.cache(tmp_path, RERANKER, COMMIT, made.write_reranker(tmp_path / "reranker"))
    return tmp_path


@pytest.fixture
def made_server(home: Path) -> Iterator[Server]:
    """A ready server with both made models and two HTTP processes."""
    variables = environment(
        home,
        DEFAULT_EMBEDDING_MODEL=EMBEDDER,
        DEFAULT_RERANKING_MODEL=f"{RERANKER}@{COMMIT}",
        API_WORKERS="2",
    )
    with serving(variables, home / "log") as server:
        server.wait_until("ready")
        yield server
