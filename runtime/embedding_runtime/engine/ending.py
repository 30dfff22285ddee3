"""From a graph's output to vectors, for graphs that end with token vectors: pooling, and the layers after it.

`model/heads.py` has the same as nodes of a graph; the tests compare the two.
"""

import math
from functools import cached_property
from pathlib import Path

import numpy as np

from embedding_runtime.engine.backend import Float32, Int32
from embedding_runtime.engine.pooling import normalize, pool
from embedding_runtime.errors import CorruptModelError
from embedding_runtime.model.judging import Judge
from embedding_runtime.model.layers import EPSILON, Layer, Weights, read_weights
from embedding_runtime.model.recipe import Recipe

_erf = np.frompyfunc(math.erf, 1, 1)


class Ending:
    """What a recipe wants done to token vectors; `repository` is where its layers' weights lie."""

    def __init__(self, recipe: Recipe, repository: Path) -> None:
        self._recipe, self._repository = recipe, repository

    @cached_property
    def _weights(self) -> list[Weights | None]:
        """Of each layer; read when they are first needed, since prepared graphs hold them."""
        return [
            read_weights(layer, self._repository) if layer.file else None for layer in self._recipe.layers
        ]

    def rows(self, tokens: Float32, mask: Int32) -> Float32:
        """The vectors float32 [b, width], not yet normalised, of token vectors [b, s, h] where mask [b, s]
        is 1. Raises CorruptModelError for layers that do not fit.
        """
        if self._recipe.judge:
            return _judged(tokens, mask, self._recipe.judge)
        rows = pool(tokens, mask, self._recipe.pooling)
        for layer, weights in zip(self._recipe.layers, self._weights, strict=True):
            rows = normalize(rows) if weights is None else _applied(layer, weights, rows)
        return rows


def _judged(logits: Float32, mask: Int32, judge: Judge) -> Float32:
    """[b, 1]: how much more the last token of each text says yes than no."""
    last = pool(logits, mask, ["lasttoken"])
    score = last[:, judge.yes] if judge.no is None else last[:, judge.yes] - last[:, judge.no]
    return score[:, None]


def _applied(layer: Layer, weights: Weights, rows: Float32) -> Float32:
    if rows.shape[1] != weights.weight.shape[0]:
        raise CorruptModelError(
            f"{layer.file} is for vectors of {weights.weight.shape[0]} numbers, and what is "
            f"before it gives {rows.shape[1]}"
        )
    return _normed(weights, rows) if layer.kind == "norm" else _dense(layer, weights, rows)


def _dense(layer: Layer, weights: Weights, rows: Float32) -> Float32:
    out: Float32 = rows @ weights.weight
    if weights.bias is not None:
        out = out + weights.bias
    out = _ACTIVATIONS[layer.activation](out)
    if layer.residual:
        out = out + (rows if weights.residual is None else rows @ weights.residual)
    return out


def _normed(weights: Weights, rows: Float32) -> Float32:
    centred = rows - rows.mean(axis=1, keepdims=True)
    deviation = np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + np.float32(EPSILON))
    unit: Float32 = centred / deviation * weights.weight
    return unit if weights.bias is None else unit + weights.bias


def _gelu(rows: Float32) -> Float32:
    """Each x times the probability that a normal variable is below x: torch.nn.GELU, not approximated."""
    share: Float32 = _erf(rows / np.float32(math.sqrt(2))).astype(np.float32)
    return np.float32(0.5) * rows * (share + np.float32(1))


def _identity(rows: Float32) -> Float32:
    return rows


def _tanh(rows: Float32) -> Float32:
    return np.tanh(rows)


def _relu(rows: Float32) -> Float32:
    return np.maximum(rows, np.float32(0))


_ACTIVATIONS = {"identity": _identity, "tanh": _tanh, "relu": _relu, "gelu": _gelu}
