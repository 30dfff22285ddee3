"""A prepared graph does what the repository's own graph and the pooling in numpy do together."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from embedding_runtime.engine.backend import Execution, Float32, Tokens
from embedding_runtime.engine.onnx_backend import OnnxBackend, open_session
from embedding_runtime.errors import UnsupportedModelError
from embedding_runtime.model.prepared import LOGITS, NORM, TOKENS, VECTOR, Prepared
from embedding_runtime.model.recipe import Recipe, read_recipe
from embedding_runtime.model.rewriting import rewrite
from embedding_runtime.model.shelf import GRAPH, WEIGHTS
from embedding_runtime.settings import POOLINGS
from tests.unit.runtime import made

import onnxruntime as ort  # isort: skip  after onnx_backend, which switches its telemetry off

RECIPE = Recipe(task="embed", tokenizer="tokenizer.json", max_tokens=16, pad_id=0, pooling=("mean",))
TEXTS = [Tokens(np.array(ids, dtype=np.int32)) for ids in ([2, 4, 9, 12, 3], [2, 3], [7], [2, 13, 13, 3])]
IDS, MASK = "input_ids", "attention_mask"


def _value(name: str, kind: int, shape: Sequence[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _write(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[onnx.ValueInfoProto],
    *,
    inputs: Sequence[str] = (IDS, MASK),
    opset: int = 17,
    **tensors: np.ndarray[Any, Any],
) -> Path:
    """A graph of these nodes over the table of token vectors."""
    weights = {"table": made.table(), **tensors}
    graph = helper.make_graph(
        list(nodes),
        "written",
        [_value(name, TensorProto.INT64, ["b", "s"]) for name in inputs],
        list(outputs),
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path


def _embedder(path: Path, opset: int = 17) -> Path:
    nodes = [helper.make_node("Gather", ["table", IDS], ["last_hidden_state"])]
    outputs = [_value("last_hidden_state", TensorProto.FLOAT, ["b", "s", made.WIDTH])]
    return _write(path, nodes, outputs, opset=opset)


def _rows(path: Path, recipe: Recipe, texts: Sequence[Tokens] = TEXTS, *, plain: bool) -> Float32:
    graph = Prepared(path, "fp32", plain=plain, note=None, key="made")
    backend = OnnxBackend(graph, recipe, Execution("cpu", 1))
    backend.load()
    return backend.run(texts)


def _check(path: Path, recipe: Recipe, folder: Path, atol: float = 1e-6) -> onnx.ModelProto:
    """Rewrite the graph and compare; the rewritten one."""
    folder.mkdir(exist_ok=True)
    rewrite(path, recipe, folder)
    expected = _rows(path, recipe, plain=True)
    np.testing.assert_allclose(_rows(folder / GRAPH, recipe, plain=False), expected, atol=atol)
    return onnx.load(folder / GRAPH, load_external_data=False)


@pytest.mark.parametrize("opset", [11, 12, 13, 17, 18, 21])
@pytest.mark.parametrize("normalize", [False, True])
def test_every_pooling_gives_the_same_inside_the_graph(tmp_path: Path, opset: int, normalize: bool) -> None:
    path = _embedder(tmp_path / "model.onnx", opset)
    for count in (1, 2, len(POOLINGS)):
        for modes in combinations(POOLINGS, count):
            _check(path, replace(RECIPE, pooling=modes, normalize=normalize), tmp_path)


@pytest.mark.parametrize("plain", [True, False])
def test_a_masked_language_model_gives_weights_of_words(tmp_path: Path, plain: bool) -> None:
    path = made.write_sparse(tmp_path / "model") / "onnx/model.onnx"
    recipe = replace(RECIPE, pooling=("splade",), normalize=False)
    if not plain:
        rewrite(path, recipe, tmp_path)
        path = tmp_path / GRAPH
    texts = ["red cat", "blue dog runs quickly", ""]
    tokens = [Tokens(np.array([made.CLS, *made.ids(text), made.SEP], dtype=np.int32)) for text in texts]
    for text, row in zip(texts, _rows(path, recipe, tokens, plain=plain), strict=True):
        expected = made.sparse(text)
        assert {int(at): pytest.approx(row[at], abs=1e-5) for at in np.flatnonzero(row)} == expected


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_tokens_that_are_not_pooled_are_left_out_inside_the_graph_as_well(tmp_path: Path, opset: int) -> None:
    path = _embedder(tmp_path / "model.onnx", opset)
    texts = [replace(text, unpooled=count) for text, count in zip(TEXTS, (2, 1, 0, 3), strict=True)]
    for mode in POOLINGS:
        recipe = replace(RECIPE, pooling=(mode,), pools_prompt=False)
        rewrite(path, recipe, tmp_path)
        inside, outside = (
            _rows(tmp_path / GRAPH, recipe, texts, plain=False),
            _rows(path, recipe, texts, plain=True),
        )
        np.testing.assert_allclose(inside, outside, atol=1e-6)
        left = made.table()[TEXTS[0].ids[2:]]
        expected = {"cls": left[0], "lasttoken": left[-1], "max": left.max(axis=0), "mean": left.mean(axis=0)}
        if mode in expected:
            np.testing.assert_allclose(inside[0], expected[mode], atol=1e-6)


def test_its_inputs_and_outputs_are_the_agreed_ones(tmp_path: Path) -> None:
    rewrite(_embedder(tmp_path / "model.onnx"), RECIPE, tmp_path)
    session = ort.InferenceSession(str(tmp_path / GRAPH))
    assert {each.name: each.type for each in session.get_inputs()} == {
        IDS: "tensor(int32)",
        MASK: "tensor(int32)",
    }
    assert [each.name for each in session.get_outputs()] == [VECTOR, NORM, TOKENS]
    feed = {
        IDS: np.array([[2, 4, 3], [2, 3, 0]], dtype=np.int32),
        MASK: np.array([[1, 1, 1], [1, 1, 0]], dtype=np.int32),
    }
    vector, norm, tokens = session.run([VECTOR, NORM, TOKENS], feed)
    np.testing.assert_allclose(norm, np.linalg.norm(vector, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(tokens, made.table()[feed[IDS]])


def test_a_length_before_normalisation_is_told(tmp_path: Path) -> None:
    rewrite(_embedder(tmp_path / "model.onnx"), replace(RECIPE, normalize=True), tmp_path)
    session = ort.InferenceSession(str(tmp_path / GRAPH))
    ids = np.array([[2, 4, 3]], dtype=np.int32)
    vector, norm = session.run([VECTOR, NORM], {IDS: ids, MASK: np.ones_like(ids)})
    np.testing.assert_allclose(norm[:, None] * vector, made.table()[ids].mean(axis=1), rtol=1e-5)


def test_a_reranker_keeps_its_logits(tmp_path: Path) -> None:
    folder = made.write_reranker(tmp_path / "model")
    model = _check(folder / "onnx/model.onnx", read_recipe(folder, "m"), tmp_path / "made")
    assert [value.name for value in model.graph.output] == [LOGITS]
    assert [value.name for value in model.graph.input] == [IDS, "token_type_ids"]


@pytest.mark.parametrize("external", [False, True])
def test_weights_lie_in_a_file_of_their_own_each_on_a_page(tmp_path: Path, external: bool) -> None:
    nodes = [
        helper.make_node("Gather", ["table", IDS], ["known"]),
        helper.make_node("MatMul", ["known", "wide"], ["widened"]),
        helper.make_node("Add", ["widened", "bias"], ["last_hidden_state"]),
    ]
    wide = np.random.default_rng(1).normal(size=(made.WIDTH, 300)).astype(np.float32)
    outputs = [_value("last_hidden_state", TensorProto.FLOAT, ["b", "s", 300])]
    path = _write(tmp_path / "model.onnx", nodes, outputs, wide=wide, bias=wide[0])
    if external:
        # As the hub's cache has it: both files are links to others.
        model = onnx.load(path)
        (tmp_path / "blobs").mkdir()
        onnx.save(model, path, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
        for file in (path, tmp_path / "model.onnx_data"):
            target = tmp_path / "blobs" / file.name
            file.rename(target)
            file.symlink_to(target)
    made_of = _check(path, RECIPE, tmp_path / "made")
    places = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in made_of.graph.initializer
        if tensor.external_data
    }
    assert {place["location"] for place in places.values()} == {WEIGHTS}
    assert set(places) == {"wide", "bias"}
    assert all(int(place["offset"]) % 4096 == 0 for place in places.values())


def test_lists_of_numbers_are_weights_as_well(tmp_path: Path) -> None:
    path = _embedder(tmp_path / "model.onnx")
    model = onnx.load(path)
    values = np.tile(made.table(), (20, 1))
    model.graph.initializer[0].CopyFrom(
        helper.make_tensor("table", TensorProto.FLOAT, values.shape, values.ravel().tolist())
    )
    onnx.save(model, path)
    _check(path, RECIPE, tmp_path / "made")
    assert (tmp_path / "made" / WEIGHTS).stat().st_size == values.nbytes


def test_16_bit_token_vectors_are_pooled_as_32_bit_ones(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", IDS], ["known"]),
        helper.make_node("Cast", ["known"], ["last_hidden_state"], to=TensorProto.FLOAT16),
    ]
    outputs = [_value("last_hidden_state", TensorProto.FLOAT16, ["b", "s", made.WIDTH])]
    path = _write(tmp_path / "model.onnx", nodes, outputs)
    _check(path, replace(RECIPE, pooling=("max", "mean")), tmp_path / "made")


def test_another_pooling_of_the_exporters_is_left_out(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", IDS], ["token_embeddings"]),
        helper.make_node("Mul", ["token_embeddings", "unused"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled"], ["sentence_embedding"], axes=[1], keepdims=0),
    ]
    outputs = [
        _value("token_embeddings", TensorProto.FLOAT, ["b", "s", made.WIDTH]),
        _value("sentence_embedding", TensorProto.FLOAT, ["b", made.WIDTH]),
    ]
    path = _write(tmp_path / "model.onnx", nodes, outputs, unused=np.ones(made.WIDTH, dtype=np.float32))
    model = _check(path, RECIPE, tmp_path / "made")
    assert "unused" not in {tensor.name for tensor in model.graph.initializer}
    assert "ReduceMean" not in {node.op_type for node in model.graph.node}


def test_a_graph_that_pools_by_itself_is_normalised(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", IDS], ["known"]),
        helper.make_node("ReduceMean", ["known"], ["sentence_embedding"], axes=[1], keepdims=0),
    ]
    outputs = [_value("sentence_embedding", TensorProto.FLOAT, ["b", made.WIDTH])]
    path = _write(tmp_path / "model.onnx", nodes, outputs, inputs=[IDS])
    model = _check(path, replace(RECIPE, normalize=True), tmp_path / "made")
    assert [value.name for value in model.graph.output] == [VECTOR, NORM]
    assert [value.name for value in model.graph.input] == [IDS]


def test_a_graph_may_use_our_names_and_have_graphs_inside(tmp_path: Path) -> None:
    known = helper.make_node("Gather", ["table", IDS], ["vector"])
    branch = helper.make_graph([known], "b", [], [_value("vector", TensorProto.FLOAT, [])])
    other = helper.make_graph(
        [helper.make_node("Identity", ["norm"], ["tokens"])],
        "o",
        [],
        [_value("tokens", TensorProto.FLOAT, [])],
    )
    nodes = [
        helper.make_node("Gather", ["table", IDS], ["norm"]),
        helper.make_node("If", ["yes"], ["logits"], then_branch=branch, else_branch=other),
        helper.make_node("Add", ["logits", "norm"], ["last_hidden_state"]),
    ]
    outputs = [_value("last_hidden_state", TensorProto.FLOAT, ["b", "s", made.WIDTH])]
    path = _write(tmp_path / "model.onnx", nodes, outputs, yes=np.array(True))
    _check(path, RECIPE, tmp_path / "made")


@pytest.mark.parametrize(
    ("opset", "inputs", "told"),
    [
        (10, [IDS], "version 10"),
        (17, [IDS, "pixel_values"], "input pixel_values of type INT64"),
        (17, ["attention_mask"], "takes no input_ids, but attention_mask"),
    ],
)
def test_what_has_no_place_for_a_head_is_refused(
    tmp_path: Path, opset: int, inputs: list[str], told: str
) -> None:
    nodes = [helper.make_node("Gather", ["table", inputs[0]], ["last_hidden_state"])]
    outputs = [_value("last_hidden_state", TensorProto.FLOAT, ["b", "s", made.WIDTH])]
    path = _write(tmp_path / "model.onnx", nodes, outputs, inputs=inputs, opset=opset)
    with pytest.raises(UnsupportedModelError, match=told):
        rewrite(path, RECIPE, tmp_path)


def _with_fused_norms(path: Path, opset: int, *, bias: bool, beta: bool = True, whole: bool = False) -> Path:
    """Two layers' normalisations as one operator each, the second with the first one's sum; as ONNX Runtime
    or Optimum save a graph.
    """
    chance = np.random.default_rng(7)
    names = ["gamma", *(["beta"] if beta else []), *(["bias"] if bias else [])]
    tensors: dict[str, Any] = {name: chance.normal(size=made.WIDTH).astype(np.float32) for name in names}
    optional = ["gamma", "beta" if beta else "", *(["bias"] if bias else [])]
    options: dict[str, Any] = {"domain": "com.microsoft", "epsilon": 1e-5}
    sums = ["", "", "sum"] if whole else []
    nodes = [
        helper.make_node("Gather", ["table", IDS], ["first"]),
        helper.make_node("Neg", ["first"], ["skip"]),
        helper.make_node("Abs", ["first"], ["other"]),
        helper.make_node("SkipLayerNormalization", ["other", "skip", *optional], ["one", *sums], **options),
        helper.make_node(
            "SkipLayerNormalization",
            ["one", "sum" if whole else "first", *optional],
            ["last_hidden_state"],
            **options,
        ),
    ]
    outputs = [_value("last_hidden_state", TensorProto.FLOAT, ["b", "s", made.WIDTH])]
    _write(path, nodes, outputs, opset=opset, **tensors)
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize(
    "form", [{"bias": True}, {"bias": False}, {"bias": True, "whole": True}, {"bias": False, "beta": False}]
)
def test_normalisations_are_taken_apart(tmp_path: Path, opset: int, form: dict[str, bool]) -> None:
    path = _with_fused_norms(tmp_path / "fused.onnx", opset, **form)
    recipe = replace(RECIPE, normalize=False)
    model = _check(path, recipe, tmp_path / "made", atol=1e-5)
    assert "SkipLayerNormalization" not in _kinds(model)


def test_additions_and_normalisations_stay_apart_on_a_cpu(real_models: Path, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    open_session(real_models / "sentence-transformers/all-MiniLM-L6-v2/onnx/model.onnx", options)
    kinds = _kinds(onnx.load(tmp_path / "optimised.onnx", load_external_data=False))
    assert kinds.count("LayerNormalization") == 13
    assert "SkipLayerNormalization" not in kinds
    assert kinds.count("BiasGelu") == 6


def _kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]
