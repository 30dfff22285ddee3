"""The same fp16 graph for other kernels of attention, which only a GPU has: which is fastest is measured
there (`service/loading.py`), and what gives other rows is left out there. They share the graph's weights.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnxruntime.transformers.convert_to_packing_mode import PackingMode
from onnxruntime.transformers.onnx_model import OnnxModel

from embedding_runtime.model.heads import Head

_ATTENTION, _PACKED = "MultiHeadAttention", "PackedMultiHeadAttention"
_PADDING = 4


def variants(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.ModelProto]]:
    """The variants of a graph with fused attention that there can be, by name (`prepared.VARIANTS`)."""
    nodes = [node for node in model.graph.node if node.op_type == _ATTENTION]
    if not nodes or len({node.input[_PADDING] for node in nodes if len(node.input) > _PADDING}) != 1:
        return
    yield "starts", _with_starts(_copied(model))
    made = OnnxModel(_copied(model))
    PackingMode(made).convert(use_symbolic_shape_infer=False)
    if sum(node.op_type == _PACKED for node in made.model.graph.node) == len(nodes):
        yield "packed", made.model


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _with_starts(model: onnx.ModelProto) -> onnx.ModelProto:
    """Padding as memory-efficient attention takes it: int32 [3 b + 2], the tokens of each text, and twice
    where each text begins among all tokens, and where the last ends.
    """
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    head = Head(opset, "starts")
    one, none = head.constant(np.int32(1)), head.constant(np.zeros(1, np.int32))
    # By sums on the device: sizes would be computed on the CPU, and copied over at each run.
    width = head.shaped(head.reduced("ReduceSum", head.op("Max", "attention_mask", one)), -1)
    begins = head.op("Concat", none, head.op("CumSum", width, head.constant(np.int64(0))), axis=0)
    attention = [node for node in model.graph.node if node.op_type == _ATTENTION]
    whole = head.op("Concat", attention[0].input[_PADDING], begins, begins, axis=0)
    for node in attention:
        node.input[_PADDING] = whole
    # After what makes the lengths, before what reads them.
    at = next(place for place, node in enumerate(model.graph.node) if node.op_type == _ATTENTION)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:at], *head.nodes, *nodes[at:]])
    model.graph.initializer.extend(head.constants)
    return model
