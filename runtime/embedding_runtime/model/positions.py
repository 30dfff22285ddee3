"""The places of tokens, counted on the device.

Exporters write them as a range up to the inputs' length. ONNX Runtime computes lengths on the CPU, so the
range would be copied to the device in each run, and a run with such a copy is no CUDA graph.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from embedding_runtime.model.heads import Head

_PASSING = frozenset({"Cast", "Squeeze", "Unsqueeze", "Identity", "Reshape"})
_IDS = "input_ids"


def count_on_the_device(model: onnx.ModelProto) -> int:
    """Replace each range from 0 to the number of tokens, in place, by a sum of ones; their number."""
    graph = model.graph
    found = [node for node in graph.node if node.op_type == "Range" and _counts_tokens(graph, node)]
    if not found:
        return 0
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    head = Head(opset, "positions")
    row = head.op("Gather", _IDS, head.constant(np.int64(0)), axis=0)
    ones = head.op("Cast", head.op("Equal", row, row), to=TensorProto.INT32)
    counted = head.op("CumSum", ones, head.constant(np.int64(0)), exclusive=1)
    nodes = list(head.nodes)
    for node in graph.node:
        if any(node is each for each in found):
            out = node.output[0]  # int64, as sizes are
            nodes.append(helper.make_node("Cast", [counted], [out], f"node of {out}", to=TensorProto.INT64))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(head.constants)
    return len(found)


def _counts_tokens(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    """Whether a range goes from 0 in steps of 1 to the inputs' second size."""
    start, limit, step = node.input
    if _number(graph, start) != 0 or _number(graph, step) != 1:
        return False
    makers = {name: each for each in graph.node for name in each.output}
    while (maker := makers.get(limit)) is not None and maker.op_type in _PASSING:
        if maker.op_type == "Cast" and maker.attribute[0].i != TensorProto.INT64:
            return False
        limit = maker.input[0]
    if maker is None or maker.op_type != "Gather" or _number(graph, maker.input[1]) not in (1, -1):
        return False
    shape = makers.get(maker.input[0])
    if shape is None or shape.op_type != "Shape" or shape.attribute:
        return False
    return shape.input[0] in {value.name for value in graph.input}


def _number(graph: onnx.GraphProto, name: str) -> float | None:
    """The value of a constant of one number; None of anything else."""
    tensors = [tensor for tensor in graph.initializer if tensor.name == name]
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] == name:
            tensors += [each.t for each in node.attribute if each.name == "value"]
    if not tensors:
        return None
    value = numpy_helper.to_array(tensors[0])
    return float(value.item()) if value.size == 1 else None
