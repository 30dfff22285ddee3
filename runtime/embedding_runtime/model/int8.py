"""8-bit integer matrix products: a graph whose linear layers quantise their input by row and their weights by
column.

ONNX Runtime's own dynamic quantisation takes one scale for all of a layer's input, so that a text's vector
moves with whatever shares its batch. Here every token has a scale of its own, symmetric around zero:

    scale[row] = max |x[row]| / 127
    q = round(x / scale) + 128, as uint8, since the kernels for signed input are slow
    y = (q - 128) @ W * scale[column] * scale[row]

The products are exact integers, so a row's result is the same in any company. What it costs in accuracy and
buys in time: docs/performance.md, "Precision".
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from embedding_runtime.errors import UnsupportedModelError
from embedding_runtime.model.heads import Head

_MOST = 127
_ZERO = np.uint8(128)
# For a row that is all zero.
_LEAST_SCALE = np.float32(1e-12)
_CONTRIB = "com.microsoft"
# The first version whose QuantizeLinear has an axis.
_LEAST_OPSET = 13
# Smaller layers take no time worth saving.
_LEAST_WEIGHTS = 4096


def quantise(model: onnx.ModelProto) -> None:
    """Give the model's linear layers 8-bit integers, in place.

    Raises UnsupportedModelError where it has no layers that can have them.
    """
    graph = model.graph
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    if opset < _LEAST_OPSET:
        raise UnsupportedModelError(f"its operators are of version {opset}, before {_LEAST_OPSET}")
    weights = {tensor.name: tensor for tensor in graph.initializer}
    layers = _Layers(opset)
    for node in graph.node:
        if (tensor := _linear(node, weights)) is None:
            layers.nodes.append(node)
        else:
            layers.add(node, tensor)
    if not layers.rows:
        raise UnsupportedModelError("it has no linear layers of 32-bit weights to make int8 of")
    del graph.node[:]
    graph.node.extend(layers.nodes)
    graph.initializer.extend(layers.constants)
    if all(each.domain != _CONTRIB for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_CONTRIB, 1))


@dataclass(frozen=True)
class _Rows:
    """A layer's input as 8-bit rows: names of the values, of the rows' scales, of the leading dimensions."""

    values: str
    scales: str
    leading: str


class _Layers(Head):
    """The graph's nodes, with those of integer layers in the place of linear ones."""

    def __init__(self, opset: int) -> None:
        super().__init__(opset, "int8")
        self.rows: dict[str, _Rows] = {}
        self._weights: dict[str, tuple[str, str]] = {}
        self._one, self._zero = self.constant(np.float32(1)), self.constant(_ZERO)
        self._step, self._least = self.constant(np.float32(1 / _MOST)), self.constant(_LEAST_SCALE)
        self._first, self._last = self._axes(0), self._axes(-1)

    def add(self, node: onnx.NodeProto, weights: onnx.TensorProto) -> None:
        """What stands for the product of a float32 [..., k] with the weights [k, n]."""
        rows = self._quantised(node.input[0], weights.dims[0])
        values, scales = self._rounded(weights)
        product = self.op(
            "MatMulIntegerToFloat",
            *(rows.values, values, self._one, scales, self._zero),
            domain=_CONTRIB,
        )
        shape = self.op("Concat", rows.leading, self._axes(weights.dims[1]), axis=0)
        self.op("Reshape", self.op("Mul", product, rows.scales), shape, out=node.output[0])

    def _rounded(self, tensor: onnx.TensorProto) -> tuple[str, str]:
        """The weights by column, int8 [k, n] and float32 [n], made once however many layers have them."""
        if tensor.name not in self._weights:
            weights: NDArray[np.float32] = numpy_helper.to_array(tensor)
            scales = np.maximum(np.abs(weights).max(axis=0) / _MOST, _LEAST_SCALE)
            values = np.rint(weights / scales).astype(np.int8)
            self._weights[tensor.name] = self.constant(values), self.constant(scales)
        return self._weights[tensor.name]

    def _quantised(self, value: str, width: int) -> _Rows:
        """The rows of a float32 [..., width], made once however many layers read them."""
        if value not in self.rows:
            flat = self.shaped(value, -1, width)
            largest = self.reduced("ReduceMax", self.op("Abs", flat))
            scales = self.op("Max", self.op("Mul", largest, self._step), self._least)
            scale = self.shaped(scales, -1)
            zero = numpy_helper.from_array(np.array([_ZERO]))
            zeros = self.op("ConstantOfShape", self.op("Shape", scale), value=zero)
            quantised = self.op("QuantizeLinear", flat, scale, zeros, axis=0)
            leading = self.op("Slice", self.op("Shape", value), self._first, self._last)
            self.rows[value] = _Rows(quantised, scales, leading)
        return self.rows[value]

    def _axes(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64))


def _linear(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> onnx.TensorProto | None:
    """The weights of a linear layer that is worth it; None of any other node."""
    tensor = weights.get(node.input[1]) if node.op_type == "MatMul" and not node.domain else None
    if tensor is None or tensor.data_type != TensorProto.FLOAT or len(tensor.dims) != 2:
        return None
    return tensor if tensor.dims[0] * tensor.dims[1] >= _LEAST_WEIGHTS else None
