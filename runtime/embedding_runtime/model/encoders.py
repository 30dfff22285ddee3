"""Encoders like BERT as nodes of a graph, from tensors under the names that transformers gives them.

The formulas are those of its modules BertModel, RobertaModel, DistilBertModel and MPNetModel, and of their
heads for classification and masked tokens; the tests compare with its vectors (`tests/golden`).
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from onnx import TensorProto

from embedding_runtime.model.architectures import Architecture, Family
from embedding_runtime.model.heads import Head
from embedding_runtime.model.norms import normalised
from embedding_runtime.model.tensors import Array

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
_WORDS, _PLACES = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"

# What is added to the score of padding: as much as there is.
_LEAST = np.float32(np.finfo(np.float32).min)
# MPNet's positions relative to each other: from so many apart on they are in the last of its classes.
_FARTHEST = 128
# The approximation of a GELU by tanh (Hendrycks and Gimpel, arXiv 1606.08415).
_CUBE = 0.044715


@dataclass(frozen=True)
class _Names:
    """What a family calls the parts of its layers."""

    layer: str
    query: str
    key: str
    value: str
    out: str
    after_attention: str
    up: str
    down: str
    after_all: str


_BERT = _Names(
    "encoder.layer.{}.",
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
_DISTILBERT = _Names(
    "transformer.layer.{}.",
    "attention.q_lin",
    "attention.k_lin",
    "attention.v_lin",
    "attention.out_lin",
    "sa_layer_norm",
    "ffn.lin1",
    "ffn.lin2",
    "output_layer_norm",
)
_MPNET = _Names(
    "encoder.layer.{}.",
    "attention.attn.q",
    "attention.attn.k",
    "attention.attn.v",
    "attention.attn.o",
    "attention.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
_LAYERS: dict[Family, _Names] = {"bert": _BERT, "roberta": _BERT, "distilbert": _DISTILBERT, "mpnet": _MPNET}


class Store(Protocol):
    """A model's tensors."""

    def has(self, name: str) -> bool:
        """Whether there is one of this name."""

    def tensor(self, name: str) -> Array:
        """The tensor. Raises UnsupportedModelError where there is none."""

    def weight(self, name: str, *, transposed: bool = False) -> str:
        """What the graph calls the tensor, which is part of it from now on. Raises as `tensor`."""


class Encoder:
    """Adds a model's nodes to a head."""

    def __init__(self, head: Head, made: Architecture, store: Store) -> None:
        self._head, self._made, self._store = head, made, store
        self._names = _LAYERS[made.family]
        self._width = int(store.tensor(_WORDS).shape[1])

    def tokens(self, out: str) -> str:
        """The vectors of tokens, [b, s, h]."""
        value = self._embedded()
        bias = self._bias()
        for number in range(self._made.layers):
            value = self._layer(number, value, bias, out if number == self._made.layers - 1 else "")
        return value

    def _embedded(self) -> str:
        op, family = self._head.op, self._made.family
        value = op("Gather", self._store.weight(_WORDS), IDS)
        if family == "bert":
            types = self._store.weight("embeddings.token_type_embeddings.weight")
            value = op("Add", value, op("Gather", types, TYPES))
        elif family == "roberta":  # of which all tokens are of one type
            first = self._store.tensor("embeddings.token_type_embeddings.weight")[0]
            value = op("Add", value, self._head.constant(first))
        places = self._store.weight(_PLACES)
        counts = family in ("bert", "distilbert")
        value = op(
            "Add", value, op("Gather", places, self._counted() if counts else self._counted_from_pad())
        )
        return self._norm(value, "embeddings.LayerNorm")

    def _counted(self) -> str:
        """0 for the first token of a text, 1 for the second: [s]."""
        return self._head.op("Range", self._integer(0), self._length(), self._integer(1))

    def _counted_from_pad(self) -> str:
        """One more than the id of padding for the first token, and that id for padding itself: [b, s]."""
        op = self._head.op
        is_token = op(
            "Cast", op("Not", op("Equal", IDS, self._integer(self._made.pad_id))), to=TensorProto.INT64
        )
        count = op("Mul", op("CumSum", is_token, self._integer(1)), is_token)
        return op("Add", count, self._integer(self._made.pad_id))

    def _length(self) -> str:
        """The number of tokens that texts are padded to."""
        return self._head.op("Gather", self._head.op("Shape", IDS), self._integer(1), axis=0)

    def _bias(self) -> str:
        """What is added to all scores: of padding, and for MPNet by how far tokens are apart."""
        op, one = self._head.op, self._head.constant(np.float32(1))
        is_padding = op("Sub", one, op("Cast", MASK, to=TensorProto.FLOAT))
        padding = op("Mul", self._head.shaped(is_padding, 0, 1, 1, -1), self._head.constant(_LEAST))
        if self._made.family != "mpnet":
            return padding
        return op("Add", self._by_distance(), padding)

    def _by_distance(self) -> str:
        """MPNet's bias [1, heads, s, s]."""
        op = self._head.op
        last = int(self._store.tensor(_PLACES).shape[0]) - 1
        by_class = self._store.tensor("encoder.relative_attention_bias.weight")
        table = by_class[_classes(np.arange(-last, last + 1), len(by_class))].T
        place = self._counted()
        apart = op("Sub", self._head.shaped(place, 1, -1), self._head.shaped(place, -1, 1))
        found = op("Gather", self._head.constant(table), op("Add", apart, self._integer(last)), axis=1)
        return op("Unsqueeze", found, self._head.constant(np.array([0], dtype=np.int64)))

    def _layer(self, number: int, value: str, bias: str, out: str) -> str:
        names, at = self._names, self._names.layer.format(number)
        attended = self._linear(self._attended(value, bias, at), at + names.out)
        value = self._norm(self._head.op("Add", attended, value), at + names.after_attention)
        wide = self._activated(self._linear(value, at + names.up), self._made.activation)
        narrow = self._linear(wide, at + names.down)
        return self._norm(self._head.op("Add", narrow, value), at + names.after_all, out)

    def _attended(self, value: str, bias: str, at: str) -> str:
        op, size = self._head.op, self._width // self._made.heads

        def part(name: str, order: list[int]) -> str:
            cut = self._head.shaped(self._linear(value, at + name), 0, 0, self._made.heads, size)
            return op("Transpose", cut, perm=order)

        query, key = part(self._names.query, [0, 2, 1, 3]), part(self._names.key, [0, 2, 3, 1])
        scale = self._head.constant(np.float32(1 / math.sqrt(size)))
        scores = op("Add", op("Mul", op("MatMul", query, key), scale), bias)
        mixed = op("MatMul", op("Softmax", scores, axis=-1), part(self._names.value, [0, 2, 1, 3]))
        return self._head.shaped(op("Transpose", mixed, perm=[0, 2, 1, 3]), 0, 0, self._width)

    @property
    def labels(self) -> int:
        """How many logits a classifier gives."""
        return len(self._store.tensor(f"{_CLASSIFIERS[self._made.family]}.bias"))

    def classified(self, tokens: str, out: str) -> str:
        """The logits [b, labels] of a classifier, from the vectors of first tokens."""
        last = _CLASSIFIERS[self._made.family]
        first = self._head.op("Gather", tokens, self._integer(0), axis=1)
        if self._made.family == "bert":
            hidden = self._head.op("Tanh", self._linear(first, "pooler.dense"))
        elif self._made.family == "distilbert":
            hidden = self._head.op("Relu", self._linear(first, "pre_classifier"))
        else:
            hidden = self._head.op("Tanh", self._linear(first, "classifier.dense"))
        return self._linear(hidden, last, out)

    def guessed(self, tokens: str, out: str) -> str:
        """The logits [b, s, vocabulary] of what each token may be."""
        dense, norm, last = _MASKED[self._made.family]
        activation = "gelu" if self._made.family in ("roberta", "mpnet") else self._made.activation
        value = self._norm(self._activated(self._linear(tokens, dense), activation), norm)
        if self._made.tied or not self._store.has(f"{last}.weight"):
            words = self._head.op("Transpose", self._store.weight(_WORDS), perm=[1, 0])
        else:
            words = self._store.weight(f"{last}.weight", transposed=True)
        # One tensor with two names, of which a file has one or both.
        bias = f"{last}.bias" if self._store.has(f"{last}.bias") else f"{last.rpartition('.')[0]}.bias"
        return self._head.op("Add", self._head.op("MatMul", value, words), self._store.weight(bias), out=out)

    def _linear(self, value: str, name: str, out: str = "") -> str:
        product = self._head.op("MatMul", value, self._store.weight(f"{name}.weight", transposed=True))
        return self._head.op("Add", product, self._store.weight(f"{name}.bias"), out=out)

    def _norm(self, value: str, name: str, out: str = "") -> str:
        scaled = [self._store.weight(f"{name}.{part}") for part in ("weight", "bias")]
        return normalised(self._head, value, scaled, self._made.epsilon, out)

    def _activated(self, value: str, activation: str) -> str:
        if activation == "relu":
            return self._head.op("Relu", value)
        return self._tanh_gelu(value) if activation == "tanh_gelu" else gelu(self._head, value)

    def _tanh_gelu(self, value: str) -> str:
        op, constant = self._head.op, self._head.constant
        cube = op("Mul", op("Pow", value, constant(np.float32(3))), constant(np.float32(_CUBE)))
        inner = op("Mul", op("Add", value, cube), constant(np.float32(math.sqrt(2 / math.pi))))
        half = op("Mul", value, constant(np.float32(0.5)))
        return op("Mul", half, op("Add", op("Tanh", inner), constant(np.float32(1))))

    def _integer(self, value: int) -> str:
        return self._head.constant(np.int64(value))


# A classifier's last layer.
_CLASSIFIERS: dict[Family, str] = {
    "bert": "classifier",
    "roberta": "classifier.out_proj",
    "mpnet": "classifier.out_proj",
    "distilbert": "classifier",
}
# Of the head for masked tokens: the layer, its normalisation, and the layer that gives logits.
_MASKED: dict[Family, tuple[str, str, str]] = {
    "bert": (
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.decoder",
    ),
    "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder"),
    "mpnet": ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder"),
    "distilbert": ("vocab_transform", "vocab_layer_norm", "vocab_projector"),
}


def gelu(head: Head, value: str) -> str:
    """Each x times the probability that a normal variable is below x, written as ONNX Runtime fuses it."""
    share = head.op("Erf", head.op("Div", value, head.constant(np.float32(math.sqrt(2)))))
    whole = head.op("Mul", value, head.op("Add", share, head.constant(np.float32(1))))
    return head.op("Mul", whole, head.constant(np.float32(0.5)))


def _classes(apart: "np.ndarray[tuple[int], np.dtype[np.int64]]", count: int) -> list[int]:
    """MPNet's class of how far the second of two tokens is behind the first, of which there are `count`: half
    of them for each direction, of these the first half one by one, the others by the logarithm.
    """
    half = count // 2
    exact = half // 2
    far = np.abs(apart)
    share = np.log(np.maximum(far, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(_FARTHEST / exact)
    )
    wide = np.minimum(exact + (share * np.float32(half - exact)).astype(np.int64), half - 1)
    found: list[int] = (np.where(far < exact, far, wide) + half * (apart > 0)).tolist()
    return found
