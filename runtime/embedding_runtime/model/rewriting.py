"""From a repository's graph to the one that is run: int32 in, pooling and normalisation inside.

It and what it calls (`heads`, `norms`, `int8`, `half`, `fusing`, ...) alone import the onnx package. They run
in a process of their own (`service/preparing.py`), so that what they take of memory is given back, and that
what breaks them breaks nothing else.
"""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from embedding_runtime.errors import UnsupportedModelError
from embedding_runtime.model.derived import Derived
from embedding_runtime.model.endings import ended
from embedding_runtime.model.fusing import fuse_attention
from embedding_runtime.model.half import halved
from embedding_runtime.model.heads import Head
from embedding_runtime.model.int8 import quantise
from embedding_runtime.model.judgement import judged, narrow
from embedding_runtime.model.layers import read_weights
from embedding_runtime.model.norms import split_norms
from embedding_runtime.model.outputs import INPUTS, POOLING, choose_output, unknown_input
from embedding_runtime.model.positions import count_on_the_device
from embedding_runtime.model.prepared import LOGITS, NORM, TOKENS, VECTOR
from embedding_runtime.model.recipe import Recipe
from embedding_runtime.model.shelf import GRAPH, WEIGHTS
from embedding_runtime.model.variants import variants

# The first version with every operator of the head, and with 32-bit positions of a CumSum.
_LEAST_OPSET = 11
# ONNX Runtime maps what lies in another file into memory; small tensors stay, since shapes follow from them.
_LEAST_BYTES, _PAGE = 1024, 4096

_RESERVED = frozenset({*INPUTS, POOLING, VECTOR, NORM, TOKENS, LOGITS})


def rewrite(
    path: Path, recipe: Recipe, folder: Path, *, to: str | None = None, repository: Path = Path()
) -> int:
    """Write GRAPH and its WEIGHTS, made of the graph at `path`, into `folder`; how many attentions it fused.

    `to`: what to make of 32-bit weights, int8 for CPUs or fp16, with fused attention, for GPUs.
    `repository`: where the weights of the recipe's layers lie. Raises
    UnsupportedModelError for a graph that has no place for a head or no such layers; OSError.
    """
    model = _load(path)
    attentions = 0
    if to == "int8":
        quantise(model)
    elif to == "fp16":
        model = halved(model)
        attentions = fuse_attention(model)
        count_on_the_device(model)
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    if opset < _LEAST_OPSET:
        raise UnsupportedModelError(f"its operators are of version {opset}, before {_LEAST_OPSET}")
    if to != "fp16":
        split_norms(model, opset)
    _change_ends(model.graph, recipe, opset, repository)
    _prune(model.graph)
    _move_weights(model.graph)
    onnx.save(model, folder / GRAPH)
    if to == "fp16":
        for name, variant in variants(model):  # the weights are on the disk by now
            onnx.save(variant, folder / f"{name}.onnx")
    return attentions


def _load(path: Path) -> onnx.ModelProto:
    """The graph with its weights, wherever they lie.

    The package's own reader refuses links, which a hub's cache consists of. That no location leads out of
    the model's folder was checked when the source was opened (`model/graph.py`).
    """
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        if not external_data_helper.uses_external_data(tensor):
            continue
        info = external_data_helper.ExternalDataInfo(tensor)
        with (path.parent / info.location).open("rb") as file:
            file.seek(info.offset or 0)
            tensor.raw_data = file.read(info.length or -1)
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
    return model


def _change_ends(graph: onnx.GraphProto, recipe: Recipe, opset: int, repository: Path) -> None:
    """Give the graph its new inputs and outputs."""
    inputs, derived = _inputs(graph)
    outputs = {value.name: value.type.tensor_type for value in graph.output}
    ranks = {name: len(kind.shape.dim) for name, kind in outputs.items()}
    chosen, gives_tokens = choose_output(ranks, recipe)
    is_float = outputs[chosen].elem_type == TensorProto.FLOAT
    narrowed = recipe.judge is not None and narrow(graph, chosen, recipe.judge)
    rows = LOGITS if recipe.task == "rerank" else "own/rows"
    last = "own/words" if recipe.judge else TOKENS if gives_tokens else rows

    names = {name: f"own/{name}" for name in _RESERVED}
    names[chosen] = last if is_float else "own/chosen"
    _rename(graph, names)
    front, head = Head(opset, "front"), Head(opset)
    for name, kind in inputs.items():
        front.op("Cast", name, out=names[name], to=kind.elem_type)
    for each, elements in derived:
        _derive(front, each, elements)
    if not is_float:
        head.op("Cast", names[chosen], out=last, to=TensorProto.FLOAT)
    if recipe.judge:
        judged(head, last, recipe.judge, narrowed=narrowed, out=LOGITS)
    if recipe.task == "embed":
        _add_vector(head, last, recipe, repository, gives_tokens=gives_tokens)

    nodes = [*front.nodes, *graph.node, *head.nodes]
    if gives_tokens:
        inputs.setdefault("attention_mask", inputs["input_ids"])
        if not recipe.pools_prompt:
            inputs[POOLING] = inputs["input_ids"]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*front.constants, *head.constants])
    # With the exporter's own names of the dimensions: its notes on the values inside name the same, and ONNX
    # Runtime fuses only what it sees the shapes of.
    given = [name for name in (*INPUTS, POOLING) if name in inputs]
    graph.input.extend(_value(name, inputs[name], TensorProto.INT32) for name in given)
    graph.output.extend(_outputs(recipe, outputs[chosen], gives_tokens=gives_tokens))


def _inputs(
    graph: onnx.GraphProto,
) -> tuple[dict[str, onnx.TypeProto.Tensor], list[tuple[Derived, int]]]:
    """The inputs, which old graphs list together with the weights, and their types: those that a batch is,
    and those that follow from it.
    """
    weights = {tensor.name for tensor in graph.initializer}
    kinds = {value.name: value.type.tensor_type for value in graph.input if value.name not in weights}
    if "input_ids" not in kinds:
        raise UnsupportedModelError(f"the graph takes no input_ids, but {', '.join(kinds) or 'nothing'}")
    others = []
    for name, kind in list(kinds.items()):
        if name in INPUTS and kind.elem_type in (TensorProto.INT64, TensorProto.INT32):
            continue
        derived = Derived.of(name, [each.dim_value or each.dim_param for each in kind.shape.dim])
        if derived is None:
            raise unknown_input(name, TensorProto.DataType.Name(kind.elem_type))
        others.append((derived, kinds.pop(name).elem_type))
    return kinds, others


def _derive(front: Head, each: Derived, elements: int) -> None:
    """Compute an input that follows from the tokens, of this type of elements."""
    if each.kind == "branch":
        front.op("Identity", front.constant(np.zeros(1, dtype=np.bool_)), out=each.name)
        return
    shape = front.op("Shape", "input_ids")
    if each.kind == "memory":
        texts = front.op("Slice", shape, *(front.constant(np.array([at], dtype=np.int64)) for at in (0, 1)))
        rest = front.constant(np.array([each.heads, 0, each.width], dtype=np.int64))
        value = helper.make_tensor("value", elements, [1], [0])
        front.op("ConstantOfShape", front.op("Concat", texts, rest, axis=0), out=each.name, value=value)
        return
    length = front.op("Gather", shape, front.constant(np.array(1, dtype=np.int64)))
    zero, one = (front.constant(np.array(at, dtype=np.int64)) for at in (0, 1))
    places = front.op("Expand", front.op("Range", zero, length, one), shape)
    front.op("Cast", places, out=each.name, to=elements)


def _add_vector(head: Head, last: str, recipe: Recipe, repository: Path, *, gives_tokens: bool) -> None:
    rows = last
    if gives_tokens:
        each = [(layer, read_weights(layer, repository) if layer.file else None) for layer in recipe.layers]
        mask = "attention_mask" if recipe.pools_prompt else POOLING
        rows = ended(head, head.pooled(last, mask, recipe.pooling, whole=recipe.pools_prompt), each)
    length = head.length(rows)
    head.op("Reshape", length, head.constant(np.array([-1], dtype=np.int64)), out=NORM)
    if recipe.normalize:
        head.unit(rows, length, out=VECTOR)
    else:
        head.op("Identity", rows, out=VECTOR)


def _outputs(
    recipe: Recipe, chosen: onnx.TypeProto.Tensor, *, gives_tokens: bool
) -> Iterator[onnx.ValueInfoProto]:
    if recipe.judge:
        yield helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [None, 1])
        return
    if recipe.task == "rerank":
        yield _value(LOGITS, chosen, TensorProto.FLOAT)
        return
    yield helper.make_tensor_value_info(VECTOR, TensorProto.FLOAT, [None, None])
    yield helper.make_tensor_value_info(NORM, TensorProto.FLOAT, [None])
    if gives_tokens:
        yield _value(TOKENS, chosen, TensorProto.FLOAT)


def _value(name: str, like: onnx.TypeProto.Tensor, kind: int) -> onnx.ValueInfoProto:
    """A value of this kind with the shape of another."""
    value = onnx.ValueInfoProto(name=name)
    value.type.tensor_type.shape.CopyFrom(like.shape)
    value.type.tensor_type.elem_type = kind
    return value


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Call values of the graph, and of the graphs inside it, otherwise."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for inner in _inside(node):
            _rename(inner, names)
    for value in itertools.chain(graph.initializer, graph.input, graph.output, graph.value_info):
        value.name = names.get(value.name, value.name)


def _inside(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node of a loop or a branch holds."""
    for attribute in node.attribute:
        yield from (graph for graph in (attribute.g, *attribute.graphs) if graph.node)


def _prune(graph: onnx.GraphProto) -> None:
    """Remove what none of the outputs needs, such as another pooling that the exporter put there."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):  # in the order in which they run, by ONNX's rules
        if needed.isdisjoint(node.output):
            continue
        kept.append(node)
        needed.update(_read(node))
    kept.reverse()
    del graph.node[:]
    graph.node.extend(kept)
    # One by one, since a new list would be a copy of all weights.
    for at in reversed(range(len(graph.initializer))):
        if graph.initializer[at].name not in needed:
            del graph.initializer[at]


def _read(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for graph in _inside(node):
        yield from (value.name for value in graph.output)
        for inner in graph.node:
            yield from _read(inner)


def _move_weights(graph: onnx.GraphProto) -> None:
    """Have the large tensors written to a file of their own, each from the beginning of a page."""
    at = 0
    for tensor in _with_bytes(graph.initializer):
        if (size := len(tensor.raw_data)) >= _LEAST_BYTES:
            external_data_helper.set_external_data(tensor, WEIGHTS, offset=at)
            at += -(-size // _PAGE) * _PAGE


def _with_bytes(tensors: Iterable[onnx.TensorProto]) -> Iterator[onnx.TensorProto]:
    """The tensors, those with a list of numbers turned into bytes."""
    for tensor in tensors:
        if not tensor.HasField("raw_data") and tensor.data_type != TensorProto.STRING:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
        yield tensor
