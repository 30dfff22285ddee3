"""The layers after the pooling as nodes of a graph: `engine/ending.py` does the same to the answers of a
graph that has none; the tests compare the two.
"""

import math
from collections.abc import Sequence

import numpy as np

from embedding_runtime.model.heads import Head
from embedding_runtime.model.layers import EPSILON, Layer, Weights
from embedding_runtime.model.norms import normalised

_KINDS = {"tanh": "Tanh", "relu": "Relu"}


def ended(head: Head, rows: str, layers: Sequence[tuple[Layer, Weights | None]]) -> str:
    """What the layers make of float32 [b, h]: [b, width]."""
    for layer, weights in layers:
        if weights is None:
            rows = head.unit(rows, head.length(rows))
        elif layer.kind == "norm":
            scaled = [head.constant(each) for each in (weights.weight, weights.bias) if each is not None]
            rows = normalised(head, rows, scaled, EPSILON)
        else:
            rows = _dense(head, layer, weights, rows)
    return rows


def _dense(head: Head, layer: Layer, weights: Weights, rows: str) -> str:
    out = head.op("MatMul", rows, head.constant(weights.weight))
    if weights.bias is not None:
        out = head.op("Add", out, head.constant(weights.bias))
    out = _activated(head, layer, out)
    if not layer.residual:
        return out
    if weights.residual is not None:
        rows = head.op("MatMul", rows, head.constant(weights.residual))
    return head.op("Add", out, rows)


def _activated(head: Head, layer: Layer, rows: str) -> str:
    if layer.activation == "identity":
        return rows
    if layer.activation == "gelu":
        share = head.op("Erf", head.op("Div", rows, head.constant(np.float32(math.sqrt(2)))))
        half = head.op("Mul", rows, head.constant(np.float32(0.5)))
        return head.op("Mul", half, head.op("Add", share, head.constant(np.float32(1))))
    return head.op(_KINDS[layer.activation], rows)
