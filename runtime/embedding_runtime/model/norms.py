"""Normalisations apart from the additions before them, which some exporters have written as one operator.

ONNX Runtime's kernel of that operator takes several times longer on a CPU than those of the two; for a GPU it
puts them together again when it loads the graph.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto

from embedding_runtime.model.heads import Head

_CONTRIB, _FUSED = "com.microsoft", "SkipLayerNormalization"
# The first version of ONNX's operators with the normalisation of a layer.
_HAS_NORM = 17
_EPSILON = 1e-12
# What SkipLayerNormalization takes and gives (onnxruntime, docs/ContribOperators.md); the mean and the
# deviation, its second and third output, are for training.
_INPUT, _SKIP, _GAMMA, _BETA, _BIAS = range(5)
_SUM = 3


def split_norms(model: onnx.ModelProto, opset: int) -> None:
    """Replace each SkipLayerNormalization of 32 bits, in place, by additions and a normalisation.

    `opset`: the version of the graph's own operators.
    """
    graph = model.graph
    whole = {each.name for each in graph.initializer if each.data_type == TensorProto.FLOAT}
    head = Head(opset, "norms")
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == _FUSED and node.domain == _CONTRIB and node.input[_GAMMA] in whole:
            before = len(head.nodes)
            _split(head, node)
            nodes += head.nodes[before:]
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(head.constants)


def _split(head: Head, node: onnx.NodeProto) -> None:
    added = _named(node.input, _INPUT, _BIAS, _SKIP)
    total = head.op("Add", *added[:2])
    for value in added[2:]:
        total = head.op("Add", total, value)
    for name in _named(node.output, _SUM):
        head.op("Identity", total, out=name)
    scaled = _named(node.input, _GAMMA, _BETA)
    epsilon = next((each.f for each in node.attribute if each.name == "epsilon"), _EPSILON)
    normalised(head, total, scaled, epsilon, node.output[0])


def normalised(head: Head, value: str, scaled: Sequence[str], epsilon: float, out: str = "") -> str:
    """The value with mean 0 and variance 1 over its last dimension, times the first of `scaled`, plus the
    second where there is one: one operator, or, before there was one, what exporters wrote, which every
    engine knows.
    """
    if head.opset >= _HAS_NORM:
        return head.op("LayerNormalization", value, *scaled, out=out, axis=-1, epsilon=epsilon)
    centred = head.op("Sub", value, head.op("ReduceMean", value, axes=[-1], keepdims=1))
    squares = head.op("Pow", centred, head.constant(np.float32(2)))
    variance = head.op("ReduceMean", squares, axes=[-1], keepdims=1)
    deviation = head.op("Sqrt", head.op("Add", variance, head.constant(np.float32(epsilon))))
    unit = head.op("Div", centred, deviation)
    gamma, *beta = scaled
    if not beta:
        return head.op("Mul", unit, gamma, out=out)
    return head.op("Add", head.op("Mul", unit, gamma), *beta, out=out)


def _named(values: Sequence[str], *places: int) -> list[str]:
    """What stands in these places, where something does: what is optional may be left out or empty."""
    return [values[at] for at in places if at < len(values) and values[at]]
