"""How far the rows of two graphs of one model may lie apart. Pure.

The bounds are cosines by class of precision (design of 0.2; docs/performance.md has what was measured).
"""

import numpy as np

from embedding_runtime.engine.backend import Float32
from embedding_runtime.settings import Task

_COSINE = {"fp32": 0.99999, "fp16": 0.999, "bf16": 0.999, "int8": 0.98}


def unlike(rows: Float32, wanted: Float32, task: Task, precision: str, noise: float = 0.0) -> str | None:
    """Why `rows` cannot stand for `wanted`, both float32 [b, width] of the same texts; None where they can.

    Vectors may lie apart, in parts of the wanted one's length, as far as unit vectors of the bound's cosine;
    scores (sigmoids of logits) as far as the bound's cosine lies from 1. Scores that lie farther apart than
    that and `noise` must not change places: for vectors those of each text with the others.
    """
    cosine = _COSINE[precision]
    if rows.shape != wanted.shape:
        return f"it gives rows of shape {rows.shape} where the model's own graph gives {wanted.shape}"
    if task == "rerank":
        apart, bound = float(np.abs(_sigmoid(rows) - _sigmoid(wanted)).max()), 1 - cosine
        what = "scores"
    else:
        lengths = np.maximum(np.linalg.norm(wanted, axis=1), 1e-12)
        apart, bound = float((np.linalg.norm(rows - wanted, axis=1) / lengths).max()), (2 - 2 * cosine) ** 0.5
        what = "vectors"
    if apart > bound:
        return f"its {what} lie {apart:.1e} from the model's own, more than {bound:.1e} for {precision}"
    margin = 1 - cosine + noise
    if not _same_order(_scores(rows, task), _scores(wanted, task), margin):
        return f"it ranks texts otherwise whose scores lie {margin:.1e} apart, too much for {precision}"
    return None


def noise_of(together: Float32, alone: Float32, task: Task) -> float:
    """How far scores move between rows of the same texts, computed in one batch and each by itself."""
    return float(np.abs(_scores(together, task) - _scores(alone, task)).max())


def _scores(rows: Float32, task: Task) -> Float32:
    """What texts are ranked by, float32 [queries, b]: cosines of each with all; or one query's sigmoids."""
    if task == "rerank":
        return _sigmoid(rows).T
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
    scores: Float32 = unit @ unit.T
    return scores


def _same_order(scores: Float32, wanted: Float32, margin: float) -> bool:
    """Whether no two of a query's scores change places that lie more than `margin` apart."""
    apart = wanted[:, :, None] - wanted[:, None, :]
    turned = scores[:, :, None] < scores[:, None, :]
    return not bool((turned & (apart > margin)).any())


def _sigmoid(logits: Float32) -> Float32:
    scores: Float32 = np.float32(1) / (np.float32(1) + np.exp(-logits))
    return scores
