"""A model's last steps as nodes of its graph: pooling and normalisation, as sentence-transformers has them.

The formulas and their lower bounds are those of `engine/pooling.py`, which does the same to the answers of a
graph that has no such head; the tests compare the two.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_LEAST_COUNT, _LEAST_NORM, _NOTHING = np.float32(1e-9), np.float32(1e-12), np.float32(-1e9)

# The version of ONNX's operators from which a reduction takes its axes as an input instead of an attribute.
_AXES_ARE_AN_INPUT = {"ReduceSum": 13, "ReduceMax": 18, "ReduceL2": 18}


class Head:
    """Nodes and constants that are to be added to a graph whose operators are of version `opset` (11 or
    later); their names begin with `name`.
    """

    def __init__(self, opset: int, name: str = "head") -> None:
        self.opset, self._name = opset, name
        self._whole = True
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """Add a node with one output; the output's name."""
        out = out or f"{self._name}/{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], f"node of {out}", **attributes))
        return out

    def constant(self, value: Any) -> str:
        """Add a constant; its name."""
        name = f"{self._name}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def shaped(self, value: str, *shape: int) -> str:
        """The value in this shape; 0 leaves a dimension, -1 takes what is left."""
        return self.op("Reshape", value, self.constant(np.array(shape, dtype=np.int64)))

    def reduced(self, kind: str, value: str) -> str:
        """The value without the extent of its second dimension, which is kept as 1."""
        if self.opset >= _AXES_ARE_AN_INPUT[kind]:
            return self.op(kind, value, self.constant(np.array([1], dtype=np.int64)), keepdims=1)
        return self.op(kind, value, axes=[1], keepdims=1)

    def pooled(self, tokens: str, mask: str, modes: Sequence[str], *, whole: bool = True) -> str:
        """Pool float32 [b, s, h] over s where int32 [b, s] is 1; several modes are concatenated: [b, h *
        len(modes)]. `whole`: it is 1 from the first token of each text on.
        """
        self._whole = whole
        weights = self.op("Cast", mask, to=TensorProto.FLOAT)
        parts = [getattr(self, f"_{mode}")(tokens, weights) for mode in modes]
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=1)

    def length(self, rows: str) -> str:
        """The L2 norm of each row: [b, 1]."""
        return self.reduced("ReduceL2", rows)

    def unit(self, rows: str, length: str, out: str = "") -> str:
        """Each row divided by its length."""
        return self.op("Div", rows, self.op("Max", length, self.constant(_LEAST_NORM)), out=out)

    def _sum(self, tokens: str, weights: str) -> str:
        """The weighted sum of token vectors: one matrix product per text."""
        return self.shaped(self.op("MatMul", self.shaped(weights, 0, 1, -1), tokens), 0, -1)

    def _count(self, weights: str) -> str:
        return self.op("Max", self.reduced("ReduceSum", weights), self.constant(_LEAST_COUNT))

    def _count_up(self, weights: str) -> str:
        """1 for the first token that is pooled, 2 for the second; texts are padded on the right."""
        return self.op("CumSum", weights, self.constant(np.array(1, dtype=np.int64)))

    def _place(self, weights: str) -> str:
        """1 for the first token of a text, 2 for the second, whether they are pooled or not."""
        if self._whole:
            return self._count_up(weights)
        one = self.constant(np.float32(1))
        return self._count_up(self.op("Max", self.op("Mul", weights, self.constant(np.float32(0))), one))

    def _cls(self, tokens: str, weights: str) -> str:
        if not self._whole:
            one = self.constant(np.float32(1))
            is_first = self.op("Cast", self.op("Equal", self._count_up(weights), one), to=TensorProto.FLOAT)
            return self._sum(tokens, self.op("Mul", is_first, weights))
        return self.op("Gather", tokens, self.constant(np.array(0, dtype=np.int64)), axis=1)

    def _max(self, tokens: str, weights: str) -> str:
        is_token = self.op("Cast", self.shaped(weights, 0, -1, 1), to=TensorProto.BOOL)
        there = self.op("Where", is_token, tokens, self.constant(_NOTHING))
        return self.shaped(self.reduced("ReduceMax", there), 0, -1)

    def _mean(self, tokens: str, weights: str) -> str:
        return self.op("Div", self._sum(tokens, weights), self._count(weights))

    def _mean_sqrt_len(self, tokens: str, weights: str) -> str:
        return self.op("Div", self._sum(tokens, weights), self.op("Sqrt", self._count(weights)))

    def _weightedmean(self, tokens: str, weights: str) -> str:
        return self._mean(tokens, self.op("Mul", weights, self._place(weights)))

    def _splade(self, tokens: str, weights: str) -> str:
        """For each word the logarithm of 1 plus its largest positive logit: the same as of the logarithms."""
        there = self.op("Mul", self.op("Relu", tokens), self.shaped(weights, 0, -1, 1))
        most = self.shaped(self.reduced("ReduceMax", there), 0, -1)
        return self.op("Log", self.op("Add", most, self.constant(np.float32(1))))

    def _lasttoken(self, tokens: str, weights: str) -> str:
        is_last = self.op("Equal", self._count_up(weights), self.reduced("ReduceSum", weights))
        last = self.op("Mul", self.op("Cast", is_last, to=TensorProto.FLOAT), weights)
        return self._sum(tokens, last)
