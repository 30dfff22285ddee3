"""`prefetch` against a hub over HTTP: what it fetches, what it reports, how it fails."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from e2e.mirror.server import Mirror
from tests.golden.texts import TEXTS
from tests.integration.runtime.server import EMBEDDER, RERANKER, environment, run, serving
from tests.unit.runtime import made

SMALL = Path(__file__).resolve().parents[2] / "golden/small"


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A hub that serves made models."""
    root = tmp_path / "mirror"
    folder = made.write_embedder(root / EMBEDDER, external=True)
    (folder / "onnx/model_fp16.onnx").write_bytes(b"another precision")
    (folder / "model.safetensors").write_bytes(b"weights of another format")
    made.write_reranker(root / RERANKER)
    made.write_reranker(root / "org/nli", labels=3)
    (root / "org/torch").mkdir()
    (root / "org/torch/model.safetensors").write_bytes(b"weights")
    (root / "org/torch/tokenizer.json").write_text("{}")
    shutil.copytree(SMALL / "shards", root / "org/safetensors")
    electra = shutil.copytree(SMALL / "BertModel", root / "org/electra")
    (electra / "config.json").write_text('{"architectures": ["ElectraModel"]}')
    broken = made.write_embedder(root / "org/broken")
    (broken / "onnx/model.onnx").write_bytes(b"not a graph")
    with _mirror(root) as endpoint:
        yield endpoint


@contextmanager
def _mirror(root: Path) -> Iterator[str]:
    server = Mirror(("127.0.0.1", 0), root)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _prefetch(
    tmp_path: Path, endpoint: str, model: str, *options: str, **variables: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    message = tmp_path / "termination-log"
    base = environment(
        tmp_path,
        HF_ENDPOINT=endpoint,
        HF_HUB_OFFLINE="0",
        MODEL_ID=model,
        TERMINATION_MESSAGE_PATH=str(message),
        PREFETCH_RETRY_SECONDS="0",
    )
    told = run("prefetch", base | variables, *options)
    return told, json.loads(message.read_text())


@pytest.mark.parametrize(
    ("model", "task", "dimensions"), [(EMBEDDER, "embed", made.WIDTH), (RERANKER, "rerank", None)]
)
def test_a_model_is_fetched_verified_and_reported(
    tmp_path: Path, mirror: str, model: str, task: str, dimensions: int | None
) -> None:
    told, message = _prefetch(tmp_path, mirror, model)
    assert told.returncode == 0, told.stderr
    folder = tmp_path / "hub" / ("models--" + model.replace("/", "--")) / "snapshots" / message["commit"]
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    assert names.isdisjoint({"onnx/model_fp16.onnx", "model.safetensors"})
    assert message == {
        "status": "ok",
        "model": model,
        "commit": message["commit"],
        "fingerprint": message["fingerprint"],
        "task": task,
        "dimensions": dimensions,
        "maxTokens": 16,
        "bytes": sum((folder / name).stat().st_size for name in names),
        "precision": "fp32",
        "file": "onnx/model.onnx",
        "shape": None,  # its configuration says nothing of layers
    }
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    progress = [line for line in lines if line["event"] == "progress"]
    assert {line["phase"] for line in progress} == {"resolving", "downloading", "inspecting"}
    assert set(progress[0]) == {"event", "phase", "bytes", "total", "message"}
    done = [line for line in progress if line["phase"] == "downloading"][-1]
    assert done["bytes"] == done["total"] == message["bytes"]


def test_what_would_be_fetched_is_told_and_nothing_is_written(tmp_path: Path, mirror: str) -> None:
    told, resolved = _prefetch(tmp_path, mirror, EMBEDDER, "--resolve")
    assert told.returncode == 0, told.stderr
    assert not (tmp_path / "hub").exists()
    _, fetched = _prefetch(tmp_path, mirror, EMBEDDER)
    same = {name: fetched[name] for name in ("model", "commit", "bytes")}
    assert resolved == {"status": "resolved"} | same


def test_files_that_a_server_is_about_to_load_need_no_proof(tmp_path: Path, mirror: str) -> None:
    told, fetched = _prefetch(tmp_path, mirror, EMBEDDER, "--unproven")
    assert told.returncode == 0, told.stderr
    assert "inspecting" not in told.stdout
    _, proven = _prefetch(tmp_path, mirror, EMBEDDER)
    same = {name: proven[name] for name in ("model", "commit", "fingerprint", "bytes")}
    assert fetched == {"status": "fetched"} | same


def test_a_copied_folder_gets_its_name_once_it_is_proven(tmp_path: Path, mirror: str) -> None:
    _, fetched = _prefetch(tmp_path, mirror, EMBEDDER)
    name = "models--" + EMBEDDER.replace("/", "--")
    cached = tmp_path / "hub" / name / "snapshots" / fetched["commit"]
    store, incoming = tmp_path / "images", tmp_path / ".incoming"
    for _ in range(2):  # a copy of the same once more changes nothing
        shutil.copytree(cached, incoming)
        told, kept = _prefetch(
            tmp_path, "http://127.0.0.1:1", EMBEDDER, MODEL_PATH=str(incoming), MODEL_STORE=str(store)
        )
        assert told.returncode == 0, told.stderr
        assert kept["folder"] == str(store / kept["fingerprint"])
        assert (store / kept["fingerprint"] / "config.json").is_file()
        assert not incoming.exists()
    assert [path.name for path in store.iterdir()] == [fetched["fingerprint"]]


@pytest.mark.parametrize(
    ("model", "code", "reason"), [("org/nothing", 3, "ModelNotFound"), (EMBEDDER, 4, "HubUnreachable")]
)
def test_what_cannot_be_resolved_fails_as_a_prefetch_does(
    tmp_path: Path, mirror: str, model: str, code: int, reason: str
) -> None:
    endpoint = mirror if code == 3 else "http://127.0.0.1:1"
    told, message = _prefetch(tmp_path, endpoint, model, "--resolve", HF_TOKEN="token")
    assert told.returncode == code
    assert message["error"]["class"] == reason


def test_what_was_fetched_is_served_offline_with_the_same_fingerprint(tmp_path: Path, mirror: str) -> None:
    _, message = _prefetch(tmp_path, mirror, EMBEDDER)
    variables = environment(
        tmp_path,
        DEFAULT_EMBEDDING_MODEL=f"{EMBEDDER}@{message['commit']}",
        EXPECTED_FINGERPRINT=message["fingerprint"],
        HF_ENDPOINT="http://127.0.0.1:1",
    )
    with serving(variables, tmp_path / "log") as server:
        (model,) = server.wait_until("ready")["models"]
        assert model["model"] == EMBEDDER
        assert server.client.post("/embed", json={"input": "cat"}).json()["model"] == EMBEDDER


def test_a_server_with_a_network_fetches_for_itself(tmp_path: Path, mirror: str) -> None:
    variables = environment(
        tmp_path, HF_HUB_OFFLINE="0", HF_ENDPOINT=mirror, DEFAULT_EMBEDDING_MODEL=EMBEDDER
    )
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")


def test_safetensors_are_fetched_converted_and_served_offline(tmp_path: Path, mirror: str) -> None:
    told, message = _prefetch(tmp_path, mirror, "org/safetensors")
    assert told.returncode == 0, told.stderr
    assert message["file"] == "model.safetensors.index.json"
    settings = environment(tmp_path, DEFAULT_EMBEDDING_MODEL=f"org/safetensors@{message['commit']}")
    settings |= {"EXPECTED_FINGERPRINT": message["fingerprint"]}
    with serving(settings, tmp_path / "log") as server:
        server.wait_until("ready")
        assert not server.events("preparing")
        (detail,) = server.client.get("/models?detail=true").json()["models"]
        assert (detail["prepared"], detail["unprepared"]) == (True, None)
        answer = server.client.post("/embed", json={"input": TEXTS[:4]}).json()
    golden = np.load(SMALL / "shards/expected.npz")["vectors"][:4]
    np.testing.assert_allclose(answer["embeddings"], golden, atol=1e-5 * np.abs(golden).max())


def test_weights_of_what_cannot_be_converted_are_not_fetched(tmp_path: Path, mirror: str) -> None:
    told, _ = _prefetch(tmp_path, mirror, "org/electra")
    assert told.returncode == 3
    blobs = list((tmp_path / "hub/models--org--electra/blobs").iterdir())
    assert [path.read_text() for path in blobs] == ['{"architectures": ["ElectraModel"]}']


def test_a_second_run_of_a_pinned_model_needs_no_hub(tmp_path: Path, mirror: str) -> None:
    _, first = _prefetch(tmp_path, mirror, EMBEDDER)
    told, second = _prefetch(tmp_path, "http://127.0.0.1:1", EMBEDDER, MODEL_REVISION=first["commit"])
    assert (told.returncode, second) == (0, first)


@pytest.mark.parametrize(
    ("model", "variables", "code", "kind", "words"),
    [
        ("no/such", {}, 3, "ModelNotFound", ["404", "no/such"]),
        ("not an id!", {}, 3, "ModelNotFound", ["404", "not an id!"]),
        (EMBEDDER, {"MODEL_REVISION": "v9"}, 3, "RevisionNotFound", ["v9"]),
        (EMBEDDER, {"MODEL_TASK": "rerank"}, 3, "TaskMismatch", ["gives embeddings"]),
        (EMBEDDER, {"MODEL_FILE": "onnx/q.onnx"}, 3, "UnsupportedModel", ["onnx/q.onnx"]),
        (EMBEDDER, {"MODEL_TASK": "sing"}, 3, "InternalError", ["MODEL_TASK=sing"]),
        ("org/nli", {}, 3, "UnsupportedModel", ["3 labels"]),
        ("org/torch", {}, 3, "UnsupportedModel", ["has no config.json", "model.safetensors"]),
        ("org/electra", {}, 3, "UnsupportedModel", ["architecture ElectraModel", "optimum-cli"]),
        ("org/broken", {}, 3, "UnsupportedModel", ["model.onnx"]),
    ],
)
def test_a_permanent_failure_has_its_class_and_exit_code(
    tmp_path: Path, mirror: str, model: str, variables: dict[str, str], code: int, kind: str, words: list[str]
) -> None:
    told, message = _prefetch(tmp_path, mirror, model, **variables)
    assert told.returncode == code
    assert message["status"] == "error"
    assert (message["error"]["class"], message["error"]["permanent"]) == (kind, True)
    assert [word for word in words if word not in message["error"]["message"]] == []


def test_a_damaged_file_is_told_and_fetched_again(tmp_path: Path) -> None:
    # Files of a MiB and more are stored by their SHA-256.
    graph = made.write_slow_to_run(tmp_path / "mirror" / EMBEDDER, 1) / "onnx/model.onnx"
    intact = graph.read_bytes()
    with _mirror(tmp_path / "mirror") as endpoint:
        graph.write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
        told, message = _prefetch(tmp_path, endpoint, EMBEDDER)
        assert told.returncode == 4
        assert "arrived damaged" in message["error"]["message"]
        graph.write_bytes(intact)
        told, message = _prefetch(tmp_path, endpoint, EMBEDDER)
        assert (told.returncode, message["status"]) == (0, "ok")


def test_an_unreachable_hub_is_tried_again_and_then_told(tmp_path: Path) -> None:
    told, message = _prefetch(tmp_path, "http://127.0.0.1:1", EMBEDDER, PREFETCH_RETRY_SECONDS="3")
    assert told.returncode == 4
    assert (message["error"]["class"], message["error"]["permanent"]) == ("HubUnreachable", False)
    phases = [json.loads(line).get("phase") for line in told.stdout.splitlines()]
    assert "waiting" in phases


def test_a_volume_that_is_too_small_is_told_before_the_first_byte(tmp_path: Path, mirror: str) -> None:
    limited = tmp_path / "limited"
    limited.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", limited], check=False)
    if os.geteuid() != 0 or mounted.returncode != 0:
        pytest.skip("needs to mount a small volume")
    try:
        told, message = _prefetch(tmp_path, mirror, EMBEDDER, HF_HOME=str(limited))
        assert told.returncode == 3
        assert (message["error"]["class"], message["error"]["permanent"]) == ("DiskFull", True)
        assert "spec.cache.size" in message["error"]["message"]
        assert list(limited.rglob("*.incomplete")) == []
    finally:
        subprocess.run(["umount", limited], check=True)
