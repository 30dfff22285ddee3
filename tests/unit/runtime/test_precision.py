"""What a model is computed in: what was asked for, what its file allows, what this machine can."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnxruntime.quantization import quantize_dynamic

from embedding_runtime.engine.backend import Execution, Float32, Tokens
from embedding_runtime.engine.choice import make_backend
from embedding_runtime.errors import PrecisionUnavailableError
from embedding_runtime.model.graph import read_facts
from embedding_runtime.model.precision import computed_in
from embedding_runtime.model.prepared import Prepared, Target
from embedding_runtime.model.source import ModelSource, open_source
from embedding_runtime.registry.cache import find_folder
from embedding_runtime.service.preparation import prepare
from embedding_runtime.settings import Precision
from tests.unit.runtime import made

WIDTH = 96


@pytest.mark.parametrize(
    ("wanted", "weights", "expected"),
    [
        ("auto", "fp32", "fp32"),
        ("auto", "int8", "int8"),
        ("fp32", "fp32", "fp32"),
        ("bf16", "fp32", "bf16"),
        ("int8", "fp32", "int8"),
        ("fp16", "fp16", "fp16"),
        ("fp32", "fp16", None),
        ("int8", "fp16", None),
        ("bf16", "int8", None),
    ],
)
def test_rounded_weights_are_computed_as_they_are_or_not_at_all(
    wanted: Precision, weights: str, expected: str | None
) -> None:
    if expected is not None:
        assert computed_in(wanted, weights) == expected
        return
    with pytest.raises(PrecisionUnavailableError, match=f"weights are {weights}.*in {wanted}"):
        computed_in(wanted, weights)


def _source(folder: Path) -> ModelSource:
    return open_source(find_folder(folder, "m", None), None)


@pytest.fixture
def source(tmp_path: Path) -> ModelSource:
    """A model whose time goes into linear layers."""
    return _source(made.write_slow_to_run(tmp_path / "model", products=3, width=WIDTH))


def _texts() -> list[Tokens]:
    """64 texts of different lengths."""
    chance = np.random.default_rng(5)
    return [
        Tokens(chance.integers(2, len(made.VOCABULARY), length, dtype=np.int32))
        for length in chance.integers(1, 60, 64)
    ]


def _rows(graph: Prepared, source: ModelSource, texts: list[Tokens]) -> Float32:
    backend = make_backend(graph, source.recipe, Execution("cpu", 2, graph.precision))
    backend.load()
    assert backend.precision == graph.precision
    return backend.run(texts)


def test_int8_layers_are_near_the_exact_ones_and_the_same_in_any_company(
    tmp_path: Path, source: ModelSource
) -> None:
    texts = _texts()
    exact = _rows(prepare(source, Target("fp32"), [tmp_path / "prepared"]), source, texts)
    graph = prepare(source, Target.of(source, "int8"), [tmp_path / "prepared"])
    assert (graph.plain, graph.note, graph.precision) == (False, None, "int8")
    rounded = _rows(graph, source, texts)
    assert 0.9990 < float((exact * rounded).sum(axis=1).min()) < 0.9999999
    alone = np.concatenate([_rows(graph, source, [text]) for text in texts[:8]])
    np.testing.assert_allclose(alone, rounded[:8], atol=1e-6)


def test_int8_weights_take_a_quarter_of_the_room(tmp_path: Path) -> None:
    source = _source(made.write_slow_to_run(tmp_path / "model", products=3, width=256))
    sizes = [
        prepare(source, Target(kind), [tmp_path / "prepared"]).path.with_name("weights").stat().st_size
        for kind in ("fp32", "int8")
    ]
    assert sizes[1] < 0.3 * sizes[0]


def test_a_model_without_layers_to_round_runs_as_it_is_and_says_why(tmp_path: Path) -> None:
    source = _source(made.write_embedder(tmp_path / "model"))
    graph = prepare(source, Target.of(source, "int8"), [tmp_path / "prepared"])
    assert (graph.plain, graph.precision) == (True, "fp32")
    assert graph.note is not None
    assert "no linear layers" in graph.note


@pytest.mark.parametrize(
    ("provider", "wanted"), [("cpu", "bf16"), ("cpu", "fp16"), ("openvino", "int8"), ("cuda", "bf16")]
)
def test_what_a_machine_cannot_compute_is_refused_with_its_name(
    source: ModelSource, provider: str, wanted: str
) -> None:
    execution = Execution(provider, 1, wanted, node="worker-7")
    with pytest.raises(PrecisionUnavailableError, match=f"worker-7 cannot compute in {wanted}"):
        make_backend(Prepared.as_it_is(source), source.recipe, execution)


def test_where_a_batch_shares_one_scale_each_text_is_computed_alone(
    tmp_path: Path, source: ModelSource
) -> None:
    logging.getLogger().setLevel(logging.ERROR)
    classic = tmp_path / "classic.onnx"
    quantize_dynamic(source.graph_path, classic, op_types_to_quantize=["MatMul"])
    assert read_facts(classic).scaled_by_batch
    assert not read_facts(source.graph_path).scaled_by_batch
    graph = replace(Prepared.as_it_is(source), path=classic, precision="int8")
    texts = _texts()
    together = _rows(graph, source, texts)
    alone = np.concatenate([_rows(graph, source, [text]) for text in texts])
    np.testing.assert_array_equal(together, alone)
