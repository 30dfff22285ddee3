"""Names of the catalogue, over a hub that has a substitute and a variant: fetched, served, found offline."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.integration.runtime.odd_hub import OddHub, odd_hub
from tests.integration.runtime.server import Server, environment, run, serving
from tests.unit.runtime import made

MINILM, EXPORT = "sentence-transformers/all-MiniLM-L6-v2", "Qdrant/all-MiniLM-L6-v2-onnx"
NOMIC = "nomic-ai/nomic-embed-text-v1.5"
COLBERT = "answerdotai/answerai-colbert-small-v1"
TEXT = "red cat"


@pytest.fixture
def filled_hub(tmp_path: Path) -> Iterator[OddHub]:
    """A hub with a repository without weights that can be served, what stands in for it, and one more."""
    root = tmp_path / "root"
    own = made.write_embedder(root / MINILM)
    shutil.rmtree(own / "onnx")
    (own / "pytorch_model.bin").write_bytes(b"weights")
    export = made.write_embedder(root / EXPORT, modules=False)
    shutil.move(export / "onnx/model.onnx", export / "model.onnx")
    made.write_embedder(root / NOMIC)
    with odd_hub(root) as hub:
        yield hub


def _online(home: Path, hub: OddHub, **variables: str) -> dict[str, str]:
    more = {"PREFETCH_RETRY_SECONDS": "0", **variables}
    return environment(home, HF_HUB_OFFLINE="0", HF_ENDPOINT=hub.endpoint, **more)


def _embed(server: Server, model: str | None = None) -> httpx.Response:
    return server.client.post("/embed", json={"input": TEXT, "model": model})


def _row(server: Server, model: str | None = None) -> made.Array:
    answer = _embed(server, model)
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["embeddings"][0], dtype=np.float32)


def _listed(server: Server) -> dict[str, Any]:
    body = server.client.get("/models", params={"detail": "true"}).json()
    return {entry["model"]: entry for entry in body["models"]}


def test_a_substitute_answers_and_is_shown(tmp_path: Path, filled_hub: OddHub) -> None:
    with serving(_online(tmp_path, filled_hub), tmp_path / "log") as server:
        server.wait_until("ready")
        assert _listed(server)[MINILM]["source"] is None
        # The export says nothing about pooling and normalisation: the catalogue does.
        np.testing.assert_allclose(_row(server, MINILM), made.embedding(TEXT), atol=1e-6)
        assert _embed(server, MINILM).json()["model"] == MINILM
        listed = _listed(server)
        assert listed[MINILM]["source"] == {"repository": EXPORT, "file": "model.onnx"}
        assert listed[MINILM]["max_tokens"] == 256
        # By the commit of the substitute it is the same model, which is not loaded again.
        commit = listed[MINILM]["revision"]
        assert _embed(server, f"{MINILM}@{commit}").status_code == 200
        (event,) = server.events("a substitute answers")
        assert (event["model"], event["repository"]) == (MINILM, EXPORT)
        assert len(server.events("model ready")) == 1


def test_a_variant_is_as_its_library_has_it_beside_the_model_itself(
    tmp_path: Path, filled_hub: OddHub
) -> None:
    variant = f"{NOMIC}@fastembed-py"
    with serving(_online(tmp_path, filled_hub), tmp_path / "log") as server:
        server.wait_until("ready")
        np.testing.assert_allclose(_row(server, NOMIC), made.embedding(TEXT), atol=1e-6)
        mean = made.table()[[made.CLS, *made.ids(TEXT), made.SEP]].mean(axis=0)
        np.testing.assert_allclose(_row(server, variant), mean, atol=1e-6)
        assert _embed(server, variant).json()["model"] == variant
        listed = _listed(server)
        assert listed[NOMIC]["source"] is None
        assert listed[variant]["source"] == {"repository": NOMIC, "file": "onnx/model.onnx"}
        assert listed[NOMIC]["fingerprint"] != listed[variant]["fingerprint"]


@pytest.mark.parametrize(
    ("name", "expected", "words"),
    [
        (COLBERT, (400, "Unsupported"), f"{COLBERT} is a late interaction model"),
        ("Qdrant/bm25@fastembed-py", (400, "Unsupported"), "is a sparse embedding model (its words' weights"),
        ("Qwen/Qwen3-Embedding-4B", (400, "Unsupported"), "no ONNX export of it is known"),
        ("org/unlisted@fastembed-rs", (404, "UnknownModel"), "is not served here"),
    ],
)
def test_what_is_known_and_not_served_says_what_it_is(
    shared_server: Server, name: str, expected: tuple[int, str], words: str
) -> None:
    answer = _embed(shared_server, name)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == expected
    assert words in error["message"]
    assert name not in shared_server.client.get("/models").text


@pytest.mark.parametrize("model", [MINILM, f"{MINILM}@fastembed-rs"])
def test_what_a_job_has_fetched_a_pod_serves_offline_by_its_commit(
    tmp_path: Path, filled_hub: OddHub, model: str
) -> None:
    variables = _online(tmp_path, filled_hub, MODEL_ID=model)
    told = [json.loads(run("prefetch", variables, *option).stdout.splitlines()[-1])
            for option in (["--resolve"], [])]  # fmt: skip
    assert [each["status"] for each in told] == ["resolved", "ok"]
    assert {each["model"] for each in told} == {model}
    assert len({each["commit"] for each in told}) == 1
    pod = environment(tmp_path, DEFAULT_EMBEDDING_MODEL=f"{model}@{told[0]['commit']}",
                      EXPECTED_FINGERPRINT=told[1]["fingerprint"], MODEL_FILE=told[1]["file"])  # fmt: skip
    with serving(pod, tmp_path / "log") as server:
        server.wait_until("ready")
        np.testing.assert_allclose(_row(server), made.embedding(TEXT), atol=1e-6)
        # Offline, every name that the cached repository answers for is there.
        expected = {MINILM, EXPORT, f"{MINILM}@fastembed-rs", f"{MINILM}@fastembed-py"}
        assert set(_listed(server)) == expected
        for name in expected:
            assert _embed(server, name).status_code == 200


def test_commands_know_which_repository_a_name_is_in(tmp_path: Path, filled_hub: OddHub) -> None:
    variant = f"{MINILM}@fastembed-rs"
    variables = _online(tmp_path, filled_hub, DEFAULT_EMBEDDING_MODEL=variant)
    told = run("prefetch", variables, variant, "--progress", "plain").stdout
    assert f"{variant}: ok: commit " in told
    assert f"model.onnx of {EXPORT} (fp32)" in told
    assert f"{variant}: ok" in run("verify", variables, variant).stdout
    assert run("prune", variables).stdout == "nothing to remove\n"
    offline = environment(tmp_path, DEFAULT_EMBEDDING_MODEL=variant)
    assert run("doctor", offline).returncode == 0
    variables["DEFAULT_EMBEDDING_MODEL"] = NOMIC
    assert EXPORT in run("prune", variables).stdout


def test_a_kind_that_is_not_served_is_not_fetched(tmp_path: Path, filled_hub: OddHub) -> None:
    told = run("prefetch", _online(tmp_path, filled_hub), COLBERT)
    assert told.returncode == 3
    assert f"{COLBERT} is a late interaction model" in told.stdout
    assert filled_hub.asked == []


def test_the_catalogue_is_printed_as_table_and_as_json(tmp_path: Path) -> None:
    lines = run("models", environment(tmp_path), "--catalogue").stdout.splitlines()
    assert lines[0].split() == [
        "model",
        "kind",
        "dimensions",
        "license",
        "served",
        "repository",
        "and",
        "file",
    ]
    entries = json.loads(run("models", environment(tmp_path), "--catalogue", "--json").stdout)
    assert [line.split()[0] for line in lines[1:]] == [entry["name"] for entry in entries]
    (nomic,) = [entry for entry in entries if entry["name"] == NOMIC]
    assert (nomic["kind"], nomic["dimensions"], nomic["served"]) == ("dense", 768, True)
    assert nomic["prompts"]["query"] == "search_query: "
    assert any(line.startswith(f"{COLBERT} ") and "not yet" in line for line in lines)
