"""Servers over small made models, for the tests of the runtime's processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.runtime.server import COMMIT, EMBEDDER, RERANKER, Server, environment, serving
from tests.unit.runtime import made


@contextmanager
def _ready_server(home: Path) -> Iterator[Server]:
    """Two HTTP processes and an engine with both made models."""
    variables = environment(
        home,
        DEFAULT_EMBEDDING_MODEL=EMBEDDER,
        DEFAULT_RERANKING_MODEL=f"{RERANKER}@{COMMIT}",
        API_WORKERS="2",
    )
    with serving(variables, home / "log") as server:
        server.wait_until("ready")
        yield server


def _filled(home: Path) -> Path:
    made.cache(home, EMBEDDER, COMMIT, made.write_embedder(home / "embedder"))
    made.cache(home, RERANKER, COMMIT, made.write_reranker(home / "reranker"))
    return home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An HF_HOME that holds a made embedding model and a made reranker."""
    return _filled(tmp_path)


@pytest.fixture
def made_server(home: Path) -> Iterator[Server]:
    """A ready server with both made models, for a test that counts, kills or looks at its processes."""
    with _ready_server(home) as server:
        yield server


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same, for all tests of a module that do no more than ask it."""
    with _ready_server(_filled(tmp_path_factory.mktemp("shared"))) as server:
        yield server
