"""Prepared graphs through the real server: made at the first start, found at the next."""

import hashlib
import json
import time
from pathlib import Path

import pytest

from tests.integration.runtime.server import COMMIT, EMBEDDER, environment, run, serving
from tests.unit.runtime import made

MINILM = "sentence-transformers/all-MiniLM-L6-v2"

# The bar is 2 s on an idle machine.
START_SECONDS = 10.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """HF_HOME with the made embedding model."""
    folder = made.write_embedder(tmp_path / "embedder")
    made.cache(tmp_path, EMBEDDER, COMMIT, folder)
    return tmp_path


def _serve(home: Path, log: Path, **variables: str) -> tuple[dict[str, object], list[dict[str, object]], str]:
    """What a server says of its model, whether it prepared it, and its metrics; it answers right."""
    settings = environment(home, DEFAULT_EMBEDDING_MODEL=EMBEDDER, **variables)
    with serving(settings, log) as server:
        server.wait_until("ready")
        answer = server.client.post("/embed", json={"input": ["red cat", "bird"]}).json()
        assert answer["embeddings"][1] == pytest.approx(made.embedding("bird"), abs=1e-6)
        (detail,) = server.client.get("/models?detail=true").json()["models"]
        return detail, server.events("preparing"), server.client.get("/metrics").text


def test_a_model_is_prepared_at_its_first_start_only(home: Path, tmp_path: Path) -> None:
    for start in range(2):
        detail, preparing, metrics = _serve(home, tmp_path / "log")
        assert (detail["prepared"], detail["unprepared"]) == (True, None)
        assert len(preparing) == 1 - start
        assert "model_preparation_fallbacks_total{" not in metrics


def test_what_prefetch_has_prepared_is_only_read(home: Path, tmp_path: Path) -> None:
    told = run("prefetch", environment(home), f"{EMBEDDER}@{COMMIT}")
    assert told.returncode == 0, told.stdout + told.stderr
    (graph,) = home.glob("prepared/*/graph.onnx")
    detail, preparing, _ = _serve(home, tmp_path / "log", PREPARED_CACHE_DIR=str(tmp_path / "own"))
    assert detail["prepared"] is True
    assert not preparing
    assert not list(tmp_path.glob("own/*/graph.onnx"))
    assert graph.is_file()


def test_what_is_not_prepared_beside_the_cache_is_where_it_is_said(home: Path, tmp_path: Path) -> None:
    detail, preparing, _ = _serve(home, tmp_path / "log", PREPARED_CACHE_DIR=str(tmp_path / "own"))
    assert detail["prepared"] is True
    assert len(preparing) == 1
    assert not (home / "prepared").exists()
    assert list(tmp_path.glob("own/*/graph.onnx"))


def test_where_nothing_can_be_written_the_models_own_graph_answers(home: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    detail, _, metrics = _serve(home, tmp_path / "log", PREPARED_CACHE_DIR=str(tmp_path / "file/own"))
    assert detail["prepared"] is False
    assert "cannot write" in str(detail["unprepared"])
    assert f'model_preparation_fallbacks_total{{model="{EMBEDDER}"}} 1.0' in metrics


def test_the_models_own_graph_can_be_asked_for(home: Path, tmp_path: Path) -> None:
    detail, preparing, metrics = _serve(home, tmp_path / "log", PREPARED_CACHE_DIR="")
    assert (detail["prepared"], detail["unprepared"], preparing) == (False, None, [])
    assert "model_preparation_fallbacks_total{" not in metrics


def test_a_damaged_graph_is_made_again(home: Path, tmp_path: Path) -> None:
    _serve(home, tmp_path / "log")
    (graph,) = home.glob("prepared/*/graph.onnx")
    whole = graph.read_bytes()
    graph.write_bytes(whole[:100])
    detail, preparing, _ = _serve(home, tmp_path / "log")
    assert detail["prepared"] is True
    assert len(preparing) == 1
    assert graph.read_bytes() == whole


def test_one_that_does_not_load_gives_way_to_the_models_own(home: Path, tmp_path: Path) -> None:
    """As another version of ONNX Runtime may refuse what the one that checked it took."""
    _serve(home, tmp_path / "log")
    (graph,) = home.glob("prepared/*/graph.onnx")
    graph.write_bytes(b"nonsense")
    manifest = graph.with_name("prepared.json")
    said = json.loads(manifest.read_text())
    said["files"]["graph.onnx"] = hashlib.sha256(b"nonsense").hexdigest()
    manifest.write_text(json.dumps(said))
    detail, preparing, metrics = _serve(home, tmp_path / "log")
    assert (detail["prepared"], preparing) == (False, [])
    assert "cannot load graph.onnx" in str(detail["unprepared"])
    assert f'model_preparation_fallbacks_total{{model="{EMBEDDER}"}} 1.0' in metrics


def test_a_real_model_starts_quickly_from_the_second_time_on(real_models: Path, tmp_path: Path) -> None:
    said = tmp_path / "models.json"
    said.write_text(json.dumps({"models": [{"id": MINILM, "path": str(real_models / MINILM)}]}))
    variables = environment(tmp_path, DEFAULT_EMBEDDING_MODEL=MINILM, MODELS_CONFIG=str(said))
    seconds = []
    for _ in range(2):
        begun = time.monotonic()
        with serving(variables, tmp_path / "log") as server:
            server.wait_until("ready")
            seconds.append(time.monotonic() - begun)
            (detail,) = server.client.get("/models?detail=true").json()["models"]
            assert detail["prepared"] is True
    assert seconds[1] < START_SECONDS, seconds
