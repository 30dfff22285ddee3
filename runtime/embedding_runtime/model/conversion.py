"""From a repository's safetensors to a graph, without PyTorch, for architectures like BERT."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from embedding_runtime.errors import UnsupportedModelError
from embedding_runtime.model.architectures import Architecture, architecture
from embedding_runtime.model.encoders import IDS, MASK, TYPES, Encoder
from embedding_runtime.model.heads import Head
from embedding_runtime.model.modules import read_json
from embedding_runtime.model.shelf import GRAPH, WEIGHTS
from embedding_runtime.model.tensors import Array, checkpoint

# The first version of ONNX's operators that can normalise a layer, and the format of files of its time.
_OPSET, _IR = 17, 8
# As in `rewriting`: ONNX Runtime maps what lies in another file; small tensors stay in the graph.
_LEAST_BYTES, _PAGE = 1024, 4096
# What old checkpoints call the two tensors of a normalisation.
_OLD = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


def convert(path: Path, model: str, folder: Path) -> Path:
    """Write GRAPH and its WEIGHTS, made of the safetensors at `path`, or of those that the index there
    names, into `folder`; returns the graph's path.

    Its inputs are int64 [b, s], its outputs float32: `last_hidden_state` [b, s, h]; beside it `logits`
    [b, s, vocabulary] of a model for masked tokens; or `logits` [b, labels] alone of a classifier.

    Raises UnsupportedModelError, CorruptModelError; OSError.
    """
    made = architecture(read_json(path.with_name("config.json"), model), model)
    head = Head(_OPSET, made.family)
    folder.mkdir(exist_ok=True)
    with (folder / WEIGHTS).open("wb") as file:
        store = _Store(path, made, file)
        outputs = _outputs(Encoder(head, made, store), made, store)
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()
    ]
    used = {name for node in head.nodes for name in node.input}
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", "sequence_length"])
        for name in (IDS, MASK, TYPES)
        if name in used
    ]
    graph = helper.make_graph(head.nodes, made.family, inputs, values, [*store.made, *head.constants])
    opsets = [helper.make_opsetid("", _OPSET)]
    # Not by the package's own function, which would write the weights once more.
    (folder / GRAPH).write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=_IR).SerializeToString()
    )
    return folder / GRAPH


def _outputs(encoder: Encoder, made: Architecture, store: "_Store") -> dict[str, list[str | int]]:
    """Add the nodes; each output's shape."""
    tokens = encoder.tokens("" if made.kind == "classifier" else "last_hidden_state")
    if made.kind == "classifier":
        return {encoder.classified(tokens, "logits"): ["batch_size", encoder.labels]}
    words, width = store.tensor("embeddings.word_embeddings.weight").shape
    shapes: dict[str, list[str | int]] = {tokens: ["batch_size", "sequence_length", width]}
    if made.kind == "masked":
        shapes[encoder.guessed(tokens, "logits")] = ["batch_size", "sequence_length", words]
    return shapes


class _Store:
    """A checkpoint's tensors. Those that the graph wants go into a file, each from the start of a page."""

    def __init__(self, path: Path, made: Architecture, file: BinaryIO) -> None:
        self._name, self._made, self._file = path.name, made, file
        self._tensors = {name: tensors for tensors in checkpoint(path) for name in tensors}
        self.made: list[onnx.TensorProto] = []
        self._had: set[str] = set()

    def has(self, name: str) -> bool:
        """See encoders.Store."""
        return self._found(name) is not None

    def _found(self, name: str) -> str | None:
        """What the file calls a tensor: a model's own parts have its family's name before theirs where it
        has a head, and in old files normalisations have other names.
        """
        old = name
        for new, former in _OLD.items():
            old = old.replace(new, former)
        names = (f"{prefix}{each}" for each in (name, old) for prefix in ("", f"{self._made.family}."))
        return next((each for each in names if each in self._tensors), None)

    def tensor(self, name: str) -> Array:
        """See encoders.Store."""
        found = self._found(name)
        if found is None:
            raise UnsupportedModelError(
                f"{self._name} has no tensor {name}, which a {self._made.name} has: it was saved as "
                "something else than its config.json says"
            )
        return self._tensors[found][found]

    def weight(self, name: str, *, transposed: bool = False) -> str:
        """See encoders.Store."""
        called = f"{name}.T" if transposed else name
        if called in self._had:
            return called
        self._had.add(called)
        numbers = np.ascontiguousarray(self.tensor(name).T if transposed else self.tensor(name))
        if numbers.nbytes < _LEAST_BYTES:
            self.made.append(numpy_helper.from_array(numbers, called))
            return called
        tensor = TensorProto(name=called, data_type=TensorProto.FLOAT, dims=numbers.shape)
        tensor.raw_data = b""  # without which nothing can be said of where the bytes are
        external_data_helper.set_external_data(tensor, WEIGHTS, self._file.tell(), numbers.nbytes)
        tensor.ClearField("raw_data")
        self._file.write(numbers.tobytes())
        self._file.write(bytes(-numbers.nbytes % _PAGE))
        self.made.append(tensor)
        return called
