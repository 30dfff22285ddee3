"""Graphs for GPUs, on a CPU: fp16 weights and fused attention give what the model's own graph gives."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.shapes import Shape, lay_out
from embedding_runtime.engine.backend import Execution, Float32, Tokens
from embedding_runtime.engine.choice import computed_here
from embedding_runtime.engine.onnx_backend import OnnxBackend
from embedding_runtime.errors import PrecisionUnavailableError
from embedding_runtime.model.fusing import fuse_attention
from embedding_runtime.model.prepared import Prepared
from embedding_runtime.model.recipe import read_recipe
from embedding_runtime.model.rewriting import rewrite
from embedding_runtime.model.shelf import GRAPH
from tests.unit.runtime import made

import onnxruntime as ort  # isort: skip  after onnx_backend, which switches its telemetry off

SHAPE = Shape(layers=3, hidden=64, heads=2, positions=64)
HEADS, EACH = 2, 8
WIDE = HEADS * EACH


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of three layers with random weights."""
    home = tmp_path_factory.mktemp("bert")
    lay_out(SHAPE, made.write_embedder(home / "tokenizer"), home / "model")
    return home / "model"


def _kinds(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)


def _rows(graph: Prepared, folder: Path, texts: Sequence[Tokens]) -> tuple[Float32, Float32]:
    """The rows of texts together, and of each alone."""
    backend = OnnxBackend(graph, read_recipe(folder, "m"), Execution("cpu", 1))
    backend.load()
    return backend.run(texts), np.concatenate([backend.run([text]) for text in texts])


def _least_cosine(rows: Float32, others: Float32) -> float:
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
    return float(((rows * others).sum(axis=1) / lengths).min())


def test_halves_with_fused_attention_stay_close_to_the_models_own_graph(folder: Path, tmp_path: Path) -> None:
    rewrite(folder / "onnx/model.onnx", read_recipe(folder, "m"), tmp_path, to="fp16")
    kinds = _kinds(tmp_path / GRAPH)
    assert (kinds["MultiHeadAttention"], kinds["Softmax"]) == (SHAPE.layers, 0)
    # Nothing is computed from sizes: that would be done on the CPU, and copied to the GPU in each run.
    assert (kinds["Range"], kinds["CumSum"]) == (0, 1)
    own = Prepared(folder / "onnx/model.onnx", "fp32", plain=True, note=None, key="own")
    half = Prepared(tmp_path / GRAPH, "fp16", plain=False, note=None, key="half")
    random = np.random.default_rng(1)
    texts = [Tokens(random.integers(4, 30000, length).astype(np.int32)) for length in (3, 60, 17, 32, 1)]
    wanted, _ = _rows(own, folder, texts)
    rows, alone = _rows(half, folder, texts)
    assert _least_cosine(rows, wanted) > 0.999
    assert _least_cosine(rows, alone) > 0.99998
    assert (tmp_path / "weights").stat().st_size < 0.6 * (folder / "onnx/model.onnx").stat().st_size


def test_variants_for_a_gpu_share_weights_and_replace_every_attention(folder: Path, tmp_path: Path) -> None:
    rewrite(folder / "onnx/model.onnx", read_recipe(folder, "m"), tmp_path, to="fp16")
    half = Prepared(tmp_path / GRAPH, "fp16", plain=False, note=None, key="half")
    found = {name: variant.path for name, variant in half.variants()}
    assert list(found) == ["starts", "packed"]
    assert all(path.stat().st_size < 100_000 for path in found.values())
    kinds = _kinds(found["packed"])
    assert (kinds["PackedMultiHeadAttention"], kinds["MultiHeadAttention"]) == (SHAPE.layers, 0)
    assert (kinds["RemovePadding"], kinds["RestorePadding"]) == (1, 1)
    # Whole and in order: what a CPU lacks of it are the kernels.
    with pytest.raises(Exception, match="Kernel not found"):
        ort.InferenceSession(str(found["packed"]), providers=["CPUExecutionProvider"])
    assert not list(Prepared(tmp_path / GRAPH, "fp32", plain=True, note=None, key="own").variants())


def test_where_each_text_begins_is_told_as_memory_efficient_attention_wants_it(
    folder: Path, tmp_path: Path
) -> None:
    rewrite(folder / "onnx/model.onnx", read_recipe(folder, "m"), tmp_path, to="fp16")
    model = onnx.load(tmp_path / "starts.onnx")
    (padding,) = {node.input[4] for node in model.graph.node if node.op_type == "MultiHeadAttention"}
    needed: set[str] = {padding}
    nodes: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            nodes.insert(0, node)
    output = helper.make_tensor_value_info(padding, TensorProto.INT32, ["n"])
    weights = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    mask = [value for value in model.graph.input if value.name == "attention_mask"]
    part = helper.make_model(
        helper.make_graph(nodes, "part", mask, [output], weights), opset_imports=model.opset_import
    )
    part.ir_version = 8
    session = ort.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
    (told,) = session.run(None, {"attention_mask": np.array([[1, 1, 1, 0], [1, 0, 0, 0]], np.int32)})
    assert told.tolist() == [3, 1, 0, 4, 8, 0, 4, 8]


class _Made:
    """Attention over a table of token vectors, written in one of the ways in which exporters write it."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights = [numpy_helper.from_array(_random(len(made.VOCABULARY), WIDE), "table")]

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], **attributes))
        return out

    def constant(self, value: Any) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def model(self, output: str) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Identity", [output], ["last_hidden_state"]))
        names = ("input_ids", "attention_mask")
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in names]
        outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "s", WIDE])]
        graph = helper.make_graph(self.nodes, "made", inputs, outputs, self.weights)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _random(*shape: int) -> Float32:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def _attention(style: str) -> onnx.ModelProto:
    graph = _Made()
    x = graph.op("Gather", "table", "input_ids")

    def heads(order: list[int]) -> str:
        linear = graph.op("MatMul", x, graph.constant(_random(WIDE, WIDE)))
        if style == "sizes that are put together":
            size = graph.op("Shape", x)
            parts = [graph.op("Gather", size, graph.constant(np.array([axis]))) for axis in (0, 1)]
            tail = [graph.constant(np.array([HEADS])), graph.constant(np.array([EACH]))]
            shape = graph.op("Concat", *parts, *tail, axis=0)
        else:
            shape = graph.constant(np.array([0, 0, HEADS, EACH]))
        return graph.op("Transpose", graph.op("Reshape", linear, shape), perm=order)

    query, value = heads([0, 2, 1, 3]), heads([0, 2, 1, 3])
    if style == "keys transposed twice":
        key = graph.op("Transpose", heads([0, 2, 1, 3]), perm=[0, 1, 3, 2])
    else:
        key = heads([0, 2, 3, 1])
    if style == "both sides scaled":
        root = graph.constant(np.float32(EACH**-0.25))
        query, key = graph.op("Mul", query, root), graph.op("Mul", key, root)
    scores = graph.op("MatMul", query, key)
    if style != "both sides scaled":
        scores = graph.op("Div", scores, graph.constant(np.float32(EACH**0.5)))
    spread = graph.op("Unsqueeze", "attention_mask", graph.constant(np.array([1, 2])))
    if style == "masked in place":
        hidden = graph.op("Equal", spread, graph.constant(np.int64(0)))
        scores = graph.op("Where", hidden, graph.constant(np.float32(-1e9)), scores)
    else:
        left = graph.op("Sub", graph.constant(np.float32(1)), graph.op("Cast", spread, to=TensorProto.FLOAT))
        scores = graph.op("Add", graph.op("Mul", left, graph.constant(np.float32(-1e9))), scores)
    if style == "a bias by position":
        scores = graph.op("Add", scores, graph.constant(_random(1, HEADS, 1, 1) * np.ones(20, np.float32)))
    mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value)
    joined = graph.op("Transpose", mixed, perm=[0, 2, 1, 3])
    return graph.model(graph.op("Reshape", joined, graph.constant(np.array([0, 0, WIDE]))))


def _one_node(with_bias: bool) -> onnx.ModelProto:
    """Attention as one node already, with what is added to its scores made of the mask, or not."""
    graph = _Made()
    x = graph.op("Gather", "table", "input_ids")
    spread = graph.op("Unsqueeze", "attention_mask", graph.constant(np.array([1, 2])))
    left = graph.op("Sub", graph.constant(np.float32(1)), graph.op("Cast", spread, to=TensorProto.FLOAT))
    added = graph.op("Mul", left, graph.constant(np.float32(-1e9)))
    size = graph.op("Shape", "attention_mask")
    first, last = (graph.op("Gather", size, graph.constant(np.array([axis]))) for axis in (0, 1))
    whole = graph.op("Concat", first, graph.constant(np.array([HEADS])), last, last, axis=0)
    added = graph.op("Expand", added, whole)
    if with_bias:
        added = graph.op(
            "Add", added, graph.op("Range", *(graph.constant(np.float32(end)) for end in (0, 4, 1)))
        )
    inputs = [graph.op("MatMul", x, graph.constant(_random(WIDE, WIDE))) for _ in range(3)]
    domain = "com.microsoft"
    out = graph.op("MultiHeadAttention", *inputs, "", "", added, "", "", domain=domain, num_heads=HEADS)
    return graph.model(out)


FEED = {
    "input_ids": np.array([[5, 6, 7, 8], [9, 10, 0, 0]]),
    "attention_mask": np.array([[1, 1, 1, 1], [1, 1, 0, 0]]),
}


def _run(model: onnx.ModelProto) -> Float32:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, FEED)
    rows: Float32 = np.concatenate([output[0], output[1, :2]])
    return rows


@pytest.mark.parametrize(
    "style",
    ["usual", "keys transposed twice", "both sides scaled", "masked in place", "sizes that are put together"],
)
def test_attention_is_found_however_it_is_written(style: str) -> None:
    model = _attention(style)
    wanted = _run(model)
    assert fuse_attention(model) == 1
    assert any(node.op_type == "MultiHeadAttention" for node in model.graph.node)
    np.testing.assert_allclose(_run(model), wanted, atol=1e-5)


def test_what_adds_more_than_padding_to_the_scores_is_left_alone() -> None:
    model = _attention("a bias by position")
    before = model.SerializeToString()
    assert fuse_attention(model) == 0
    assert model.SerializeToString() == before


def test_attention_that_is_one_node_gets_its_padding_as_lengths() -> None:
    model = _one_node(with_bias=False)
    wanted = _run(model)
    assert fuse_attention(model) == 1
    (node,) = [node for node in model.graph.node if node.op_type == "MultiHeadAttention"]
    assert len(node.input) == 5
    np.testing.assert_allclose(_run(model), wanted, atol=1e-5)
    assert fuse_attention(_one_node(with_bias=True)) == 0


@pytest.mark.parametrize(
    ("asked", "weights", "no_gpu", "expected"),
    [
        ("auto", "fp32", None, "fp16"),
        ("auto", "fp32", "no driver", "auto"),
        ("auto", "int8", None, "auto"),
        ("fp32", "fp32", None, "fp32"),
        ("fp16", "fp32", None, "fp16"),
        ("fp16", "fp16", "no driver", "fp16"),
        ("int8", "fp32", None, "int8"),
    ],
)
def test_the_precision_follows_what_was_asked_for_and_the_device(
    asked: Any, weights: str, no_gpu: str | None, expected: str
) -> None:
    assert computed_here(asked, weights, no_gpu, "worker-7") == expected


def test_halves_without_a_gpu_are_refused_with_the_nodes_name() -> None:
    with pytest.raises(PrecisionUnavailableError, match="worker-7 cannot compute in fp16: no driver"):
        computed_here("fp16", "fp32", "no driver", "worker-7")
