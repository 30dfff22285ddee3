"""From token vectors to one vector per text, as sentence-transformers' Pooling and Normalize do it. Pure."""

from collections.abc import Sequence

import numpy as np

from embedding_runtime.engine.backend import Float32, Int32

# The same lower bounds as sentence-transformers and torch.nn.functional.normalize.
_LEAST_COUNT = 1e-9
_LEAST_NORM = 1e-12


def pool(tokens: Float32, mask: Int32, modes: Sequence[str]) -> Float32:
    """Pool float32 [b, s, h] over s where mask [b, s] is 1, which may be from the middle on; several modes
    are concatenated: [b, h * len(modes)].
    """
    parts = [_ONE[mode](tokens, mask.astype(np.float32)[:, :, None]) for mode in modes]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def normalize(rows: Float32) -> Float32:
    """Each row of float32 [b, h] divided by its L2 norm."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Float32 = rows / np.maximum(norms, np.float32(_LEAST_NORM))
    return unit


def _cls(tokens: Float32, mask: Float32) -> Float32:
    rows: Float32 = tokens[np.arange(len(tokens)), mask[:, :, 0].argmax(axis=1)]
    return rows


def _max(tokens: Float32, mask: Float32) -> Float32:
    rows: Float32 = np.where(mask == 0, np.float32(-1e9), tokens).max(axis=1)
    return rows


def _sum(tokens: Float32, mask: Float32) -> Float32:
    # One matrix product per text: no copy of the masked token vectors.
    rows: Float32 = np.matmul(mask.transpose(0, 2, 1), tokens)[:, 0]
    return rows


def _mean(tokens: Float32, mask: Float32) -> Float32:
    rows: Float32 = _sum(tokens, mask) / np.maximum(mask.sum(axis=1), np.float32(_LEAST_COUNT))
    return rows


def _mean_sqrt_len(tokens: Float32, mask: Float32) -> Float32:
    rows: Float32 = _sum(tokens, mask) / np.sqrt(np.maximum(mask.sum(axis=1), np.float32(_LEAST_COUNT)))
    return rows


def _weighted_mean(tokens: Float32, mask: Float32) -> Float32:
    return _mean(tokens, mask * np.arange(1, tokens.shape[1] + 1, dtype=np.float32)[None, :, None])


def _last_token(tokens: Float32, mask: Float32) -> Float32:
    last = tokens.shape[1] - 1 - mask[:, ::-1, 0].argmax(axis=1)
    rows: Float32 = tokens[np.arange(len(tokens)), last]
    return rows


def _splade(tokens: Float32, mask: Float32) -> Float32:
    # The logarithm does not move the largest.
    rows: Float32 = np.log1p((np.maximum(tokens, 0) * mask).max(axis=1))
    return rows


_ONE = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "lasttoken": _last_token,
    "splade": _splade,
}
