"""Attention as one node instead of a dozen: what GPUs have kernels for that keep no scores in memory.

ONNX Runtime's own optimizer knows what exporters wrote some years ago; this looks for what attention is,
whoever wrote it: a softmax over scaled products of queries and keys, by which values are added up. Where the
scores have anything added but the padding, such as a bias by position, nothing is changed. Layers'
normalisations and activations ONNX Runtime fuses itself when it loads the graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from embedding_runtime.model.heads import Head

_CONTRIB, _MASK = "com.microsoft", "attention_mask"
# The transpositions of queries, values and the output, of keys at once, and of keys after the first.
_FORTH, _KEYS, _SWAP = [0, 2, 1, 3], [0, 2, 3, 1], [0, 1, 3, 2]
# What a mask is made by of the input; anything else, such as a comparison of positions, means something else.
_MASKING = frozenset(
    {
        *("Cast", "Unsqueeze", "Squeeze", "Reshape", "Expand", "Slice", "Identity", "Concat", "Gather"),
        *("Sub", "Mul", "Add", "Div", "Equal", "Not", "And", "Where", "ConstantOfShape"),
    }
)
_SMALL = 16
# Places among the inputs of a MultiHeadAttention.
_PADDING, _BIAS = 4, 5


@dataclass(frozen=True)
class _Side:
    """Queries, keys or values: what is cut into heads, [b, s, n * h], and what it is scaled by."""

    source: str
    heads: int
    scale: float


@dataclass(frozen=True)
class _Attention:
    sides: tuple[str, str, str]
    heads: int
    scale: float
    output: str


def fuse_attention(model: onnx.ModelProto) -> int:
    """Replace each attention of an encoder, in place, by a MultiHeadAttention of com.microsoft; give those
    that there are the padding as such, not as something that is added to scores. Returns how many are so.

    What is padding follows from the graph's own attention_mask [b, s], as the tokens of each text, int32 [b]:
    texts have to be padded on the right. What is no longer needed stays.
    """
    graph = model.graph
    look = _Look(graph)
    found = {each.output: each for node in graph.node if (each := look.attention(node)) is not None}
    masked = [node for node in graph.node if look.masked(node)]
    if not found and not masked:
        return 0
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    head = Head(opset, "attention")
    mask = head.op("Cast", _MASK, to=TensorProto.INT32)
    lengths = head.shaped(head.reduced("ReduceSum", mask), -1)
    for node in masked:
        node.input[_PADDING:] = [lengths]
        node.input[:4] = [*_unbiased(look, head, node.input[:3])] if not node.input[3] else node.input[:4]
    nodes = list(head.nodes)
    for node in graph.node:
        each = found.get(node.output[0])
        nodes.append(node if each is None else _fused(each, _unbiased(look, head, each.sides), lengths))
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(head.constants)
    if all(each.domain != _CONTRIB for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
    return len(found) + len(masked)


def _unbiased(look: "_Look", head: Head, sides: Sequence[str]) -> tuple[str, str, str, str]:
    """Queries, keys and values before their biases were added, and the biases as one constant; as they are,
    and none, where not each has one. Padding can be taken out only of what a product gives.
    """
    found = [look.biased(side) for side in sides]
    if any(each is None for each in found):
        return sides[0], sides[1], sides[2], ""
    (query, first), (key, second), (value, third) = (each for each in found if each is not None)
    return query, key, value, head.constant(np.concatenate([first, second, third]))


def _fused(each: _Attention, inputs: Sequence[str], lengths: str) -> onnx.NodeProto:
    return helper.make_node(
        "MultiHeadAttention",
        [*inputs, lengths],
        [each.output],
        f"attention/{each.output}",
        domain=_CONTRIB,
        num_heads=each.heads,
        scale=each.scale,
    )


class _Look:
    """What makes each value of a graph, and what reads it."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._makers = {name: node for node in graph.node for name in node.output}
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    def attention(self, softmax: onnx.NodeProto) -> _Attention | None:
        """The attention around a softmax over the last of four dimensions; None where it is none."""
        if softmax.op_type != "Softmax" or _attribute(softmax, "axis", -1) not in (-1, 3):
            return None
        products, scale = self._products(softmax.input[0])
        out = self._only_reader(softmax.output[0], "MatMul")
        if products is None or out is None or out.input[0] != softmax.output[0]:
            return None
        query = self._side(products.input[0], _FORTH)
        key = self._side(products.input[1], _KEYS) or self._side_of_two(products.input[1])
        value = self._side(out.input[1], _FORTH)
        if query is None or key is None or value is None or value.scale != 1:
            return None
        joined = self._joined(out.output[0])
        if joined is None or not query.heads == key.heads == value.heads:
            return None
        sides = query.source, key.source, value.source
        return _Attention(sides, query.heads, scale * query.scale * key.scale, joined)

    def biased(self, name: str) -> tuple[str, NDArray[np.generic]] | None:
        """The product of matrices that a constant vector was added to, and the vector."""
        node = self._makers.get(name)
        if node is None or node.op_type != "Add":
            return None
        for product, vector in (tuple(node.input), tuple(reversed(node.input))):
            maker, value = self._makers.get(product), self._constant(vector)
            if maker is not None and maker.op_type == "MatMul" and value is not None and value.ndim == 1:
                return str(product), value
        return None

    def masked(self, node: onnx.NodeProto) -> bool:
        """Whether an attention that is one node already takes its padding as a bias of the scores."""
        if node.op_type != "MultiHeadAttention" or len(node.input) <= _BIAS or any(node.input[_BIAS + 1 :]):
            return False
        return not node.input[_PADDING] and self._is_mask(node.input[_BIAS])

    def _products(self, name: str) -> tuple[onnx.NodeProto | None, float]:
        """The product of queries and keys that scores are made of by scaling and masking; and the scale."""
        scale, masked = 1.0, False
        while (node := self._makers.get(name)) is not None:
            if node.op_type == "MatMul":
                return (node if masked else None), scale
            if (factor := self._factor(node)) is not None:
                name, scale = factor[0], scale * factor[1]
            elif not masked and node.op_type in ("Add", "Where") and (below := self._below(node)) is not None:
                if scale != 1:  # the mask would be scaled too
                    return None, scale
                name, masked = below, True
            else:
                break
        return None, scale

    def _below(self, node: onnx.NodeProto) -> str | None:
        """The scores that a mask is added to, or put in the place of; None where it is no mask."""
        if node.op_type == "Add":
            for scores, mask in (tuple(node.input), tuple(reversed(node.input))):
                if self._is_mask(mask) and not self._is_mask(scores):
                    return str(scores)
            return None
        condition, there, else_ = node.input
        if not self._is_mask(condition):
            return None
        if self._is_small(there):
            return str(else_)
        return str(there) if self._is_small(else_) else None

    def _is_mask(self, name: str) -> bool:
        """Whether a value is made of the attention mask, sizes and a few constants alone."""
        seen, open_, found = set[str](), [name], False
        while open_:
            each = open_.pop()
            if each in seen or not each or self._is_small(each):
                continue
            seen.add(each)
            node = self._makers.get(each)
            if each == _MASK:
                found = True
            elif node is None or (node.op_type not in _MASKING and node.op_type != "Shape"):
                return False
            elif node.op_type != "Shape":
                open_.extend(node.input)
        return found

    def _side(self, name: str, order: list[int]) -> _Side | None:
        """What is cut into heads and transposed so."""
        name, scale = self._unscaled(name)
        node = self._makers.get(name)
        if node is None or node.op_type != "Transpose" or _attribute(node, "perm", None) != order:
            return None
        return self._cut(node.input[0], scale)

    def _side_of_two(self, name: str) -> _Side | None:
        """Keys that are transposed as queries are, and then once more."""
        name, scale = self._unscaled(name)
        node = self._makers.get(name)
        if node is None or node.op_type != "Transpose" or _attribute(node, "perm", None) != _SWAP:
            return None
        found = self._side(node.input[0], _FORTH)
        return None if found is None else _Side(found.source, found.heads, found.scale * scale)

    def _cut(self, name: str, scale: float) -> _Side | None:
        """What a value of four dimensions was reshaped from, and how many heads it has."""
        name, more = self._unscaled(name)
        node = self._makers.get(name)
        if node is None or node.op_type != "Reshape" or (heads := self._heads(node.input[1])) is None:
            return None
        return _Side(node.input[0], heads, scale * more)

    def _heads(self, shape: str) -> int | None:
        """The third of four sizes, which is a constant one."""
        sizes = self._constant(shape)
        if sizes is not None:
            return int(sizes[2]) if sizes.size == 4 and sizes[2] > 0 else None
        node = self._makers.get(shape)
        if node is None or node.op_type != "Concat" or len(node.input) != 4:
            return None
        size = self._constant(node.input[2])
        return int(size.item()) if size is not None and size.size == 1 and size.item() > 0 else None

    def _joined(self, name: str) -> str | None:
        """The value [b, s, n * h] that the heads are put together to."""
        transposed = self._only_reader(name, "Transpose")
        if transposed is None or _attribute(transposed, "perm", None) != _FORTH:
            return None
        reshaped = self._only_reader(transposed.output[0], "Reshape")
        return None if reshaped is None else str(reshaped.output[0])

    def _unscaled(self, name: str) -> tuple[str, float]:
        """A value before it was multiplied with constants, and their product."""
        scale = 1.0
        while (node := self._makers.get(name)) is not None and (factor := self._factor(node)) is not None:
            name, scale = factor[0], scale * factor[1]
        return name, scale

    def _factor(self, node: onnx.NodeProto) -> tuple[str, float] | None:
        """What a node multiplies with a constant or divides by one, and the factor."""
        if node.op_type not in ("Mul", "Div"):
            return None
        for value, constant in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
            number = self._constant(constant)
            if number is not None and number.size == 1:
                return value, float(number.item()) ** (-1 if node.op_type == "Div" else 1)
            if node.op_type == "Div":
                break
        return None

    def _only_reader(self, name: str, kind: str) -> onnx.NodeProto | None:
        readers = [
            node for node in self._readers.get(name, []) if node.op_type != "Shape"
        ]  # a shape is the same afterwards
        return readers[0] if len(readers) == 1 and readers[0].op_type == kind else None

    def _is_small(self, name: str) -> bool:
        value = self._constant(name)
        return value is not None and value.size <= _SMALL

    def _constant(self, name: str) -> NDArray[np.generic] | None:
        """The value of a constant, by whatever way the graph holds it."""
        node = self._makers.get(name)
        if node is not None and node.op_type == "Constant":
            found = _attribute(node, "value", None)
            return numpy_helper.to_array(found) if isinstance(found, TensorProto) else None
        tensor = self._weights.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)


def _attribute(node: onnx.NodeProto, name: str, default: object) -> object:
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default
