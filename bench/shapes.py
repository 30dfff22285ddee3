"""BERT folders of any size with random weights: for measuring what a model takes, which no value changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16

VOCABULARY = 30522
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Shape:
    """The sizes of a BERT encoder; precision is fp32, fp16 or int8."""

    layers: int
    hidden: int
    heads: int
    positions: int = 512
    precision: str = "fp32"
    vocabulary: int = VOCABULARY


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)

    def constant(self, name: str, value: object, kind: type[np.generic] = np.float32) -> str:
        if name not in {tensor.name for tensor in self.weights[-64:]}:
            self.weights.append(numpy_helper.from_array(np.asarray(value, dtype=kind), name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        values = self._random.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        return self.constant(name, values)

    def op(self, kind: str, inputs: Sequence[str], out: str = "", **attributes: Any) -> str:
        out = out or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def linear(self, source: str, name: str, wide: int, high: int) -> str:
        product = self.op("MatMul", [source, self.weight(f"{name}.w", wide, high)])
        return self.op("Add", [product, self.weight(f"{name}.b", high)])

    def norm(self, source: str, name: str, wide: int, out: str = "") -> str:
        scale = self.constant(f"{name}.scale", np.ones(wide))
        return self.op("LayerNormalization", [source, scale, self.weight(f"{name}.bias", wide)], out, axis=-1)


def lay_out(shape: Shape, tokenizer: Path, folder: Path) -> None:
    """Fill a folder as a sentence-transformers repository; the tokenizer's files come from another one."""
    (folder / "onnx").mkdir(parents=True)
    for name in _TOKENIZER:
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, folder)
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "intermediate_size": 4 * shape.hidden,
        "max_position_embeddings": shape.positions,
        "pad_token_id": 0,
        "vocab_size": shape.vocabulary,
    }
    (folder / "config.json").write_text(json.dumps(config))
    limit = {"max_seq_length": shape.positions, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(limit))
    path, plain = folder / "onnx" / "model.onnx", folder / "plain.onnx"
    onnx.save(_model(shape), plain)
    if shape.precision == "int8":
        quantize_dynamic(plain, path, weight_type=QuantType.QInt8)
    elif shape.precision == "fp16":
        onnx.save(convert_float_to_float16(onnx.load(plain), keep_io_types=True), path)
    else:
        shutil.copy(plain, path)
    plain.unlink()


def _model(shape: Shape) -> onnx.ModelProto:
    graph, wide = _Graph(), shape.hidden
    words = graph.op("Gather", [graph.weight("words", shape.vocabulary, wide), "input_ids"])
    kinds = graph.op("Gather", [graph.weight("kinds", 2, wide), "token_type_ids"])
    length = graph.op("Gather", [graph.op("Shape", ["input_ids"]), graph.constant("one.i", 1, np.int64)])
    range_ = [graph.constant("zero.i", 0, np.int64), length, graph.constant("step.i", 1, np.int64)]
    places = graph.op("Gather", [graph.weight("places", shape.positions, wide), graph.op("Range", range_)])
    x = graph.norm(graph.op("Add", [graph.op("Add", [words, kinds]), places]), "embeddings", wide)
    mask = graph.op("Cast", ["attention_mask"], to=TensorProto.FLOAT)
    mask = graph.op("Mul", [graph.op("Sub", [graph.constant("one", 1), mask]), graph.constant("low", -1e4)])
    mask = graph.op("Unsqueeze", [mask, graph.constant("axes", [1, 2], np.int64)])
    for layer in range(shape.layers):
        x = _layer(graph, shape, x, mask, f"layer{layer}", last=layer == shape.layers - 1)
    names = ("input_ids", "attention_mask", "token_type_ids")
    size = ["batch", "length"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, size) for name in names]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*size, wide])
    made = helper.make_graph(graph.nodes, "bert", inputs, [output], graph.weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def _layer(graph: _Graph, shape: Shape, x: str, mask: str, name: str, *, last: bool) -> str:
    wide, each = shape.hidden, shape.hidden // shape.heads
    split = graph.constant(f"{name}.split", [0, 0, shape.heads, each], np.int64)

    def heads(part: str, order: list[int]) -> str:
        return graph.op(
            "Transpose",
            [graph.op("Reshape", [graph.linear(x, f"{name}.{part}", wide, wide), split])],
            perm=order,
        )

    scores = graph.op("MatMul", [heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1])])
    scores = graph.op("Mul", [scores, graph.constant(f"{name}.scale", each**-0.5)])
    weights = graph.op("Softmax", [graph.op("Add", [scores, mask])], axis=-1)
    mixed = graph.op("MatMul", [weights, heads("value", [0, 2, 1, 3])])
    joined = graph.op("Transpose", [mixed], perm=[0, 2, 1, 3])
    joined = graph.op("Reshape", [joined, graph.constant(f"{name}.join", [0, 0, wide], np.int64)])
    x = graph.norm(
        graph.op("Add", [graph.linear(joined, f"{name}.out", wide, wide), x]), f"{name}.norm1", wide
    )
    inner = graph.linear(x, f"{name}.up", wide, 4 * wide)
    erf = graph.op("Erf", [graph.op("Div", [inner, graph.constant(f"{name}.root", 2**0.5)])])
    half = graph.op("Mul", [inner, graph.constant(f"{name}.half", 0.5)])
    inner = graph.op("Mul", [half, graph.op("Add", [erf, graph.constant(f"{name}.unit", 1)])])
    outer = graph.op("Add", [graph.linear(inner, f"{name}.down", 4 * wide, wide), x])
    return graph.norm(outer, f"{name}.norm2", wide, "last_hidden_state" if last else "")
