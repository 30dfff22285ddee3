"""A server says what it computes with, in every precision; what its machine cannot do it refuses by name."""

from pathlib import Path

import pytest

from embedding_runtime.engine.openvino_backend import precisions
from tests.integration.runtime.server import COMMIT, EMBEDDER, environment, serving
from tests.unit.runtime import made

TEXTS = ["red cat", "blue dog runs quickly", "bird"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An HF_HOME with a model whose time goes into linear layers."""
    made.cache(tmp_path, EMBEDDER, COMMIT, made.write_slow_to_run(tmp_path / "model", 3, width=96))
    return tmp_path


@pytest.mark.parametrize(
    ("provider", "precision", "expected"),
    [
        ("cpu", "auto", ("cpu", "fp32")),
        ("cpu", "int8", ("cpu", "int8")),
        ("openvino", "auto", ("openvino", "fp32")),
        ("auto", "bf16", ("openvino", "bf16")),
    ],
)
def test_what_was_asked_for_is_what_runs_and_what_is_shown(
    home: Path, provider: str, precision: str, expected: tuple[str, str]
) -> None:
    if expected[1] not in {*precisions(), "int8"}:
        pytest.skip("this CPU has neither AMX nor AVX512-BF16")
    variables = environment(
        home,
        DEFAULT_EMBEDDING_MODEL=EMBEDDER,
        ORT_EXECUTION_PROVIDER=provider,
        MODEL_PRECISION=precision,
    )
    with serving(variables, home / "log") as server:
        (ready,) = server.wait_until("ready")["models"]
        assert (ready["provider"], ready["precision"]) == expected
        (detail,) = [
            each
            for each in server.client.get("/models", params={"detail": "true"}).json()["models"]
            if each["model"] == EMBEDDER
        ]
        assert (detail["provider"], detail["precision"], detail["unprepared"]) == (*expected, None)
        assert server.client.post("/embed", json={"input": TEXTS}).status_code == 200
        labels = f'model="{EMBEDDER}",precision="{expected[1]}",provider="{expected[0]}"'
        assert f"model_provider_info{{{labels}}} 1.0" in server.client.get("/metrics").text


def test_auto_measures_both_backends_once_and_takes_one(home: Path) -> None:
    variables = environment(home, DEFAULT_EMBEDDING_MODEL=EMBEDDER, ORT_EXECUTION_PROVIDER="auto")
    chosen = []
    for log in ("first", "second"):
        with serving(variables, home / log) as server:
            (ready,) = server.wait_until("ready")["models"]
            assert ready["precision"] == "fp32"
            (event,) = server.events("the fastest backend")
            costs = {name: event[name] for name in ("cpu", "openvino")}
            assert ready["provider"] == min(costs, key=lambda name: costs[name])
            chosen.append(costs)
    # The second start went by what the first one had measured.
    assert chosen[0] == chosen[1]


def test_a_node_that_cannot_compute_so_is_not_ready_and_says_its_name(home: Path) -> None:
    variables = environment(
        home, DEFAULT_EMBEDDING_MODEL=EMBEDDER, MODEL_PRECISION="bf16", NODE_NAME="worker-7"
    )
    with serving(variables, home / "log") as server:
        body = server.wait_until("load_failed")
        assert body["reason"] == "PrecisionUnavailable"
        assert "worker-7 cannot compute in bf16" in body["message"]
        assert server.client.get("/health/ready").status_code == 503
