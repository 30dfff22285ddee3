"""How far the rows of two graphs of one model may lie apart. Pure.

The bounds are cosines by class of precision (design of 0.2; docs/performance.md has what was measured).
"""

import numpy as np

from embedding_runtime.engine.backend import Float32
from embedding_runtime.settings import Task

_COSINE = {"fp32": 0.99999, "fp16": 0.999, "bf16": 0.999, "int8": 0.98}


def unlike(rows: Float32, wanted: Float32, task: Task, precision: str) -> str | None:
    """Why `rows` cannot stand for `wanted`, both float32 [b, width] of the same texts; None where they can.

    Vectors may lie apart, in parts of the wanted one's length, as far as unit vectors of the bound's cosine;
    scores (sigmoids of logits) as far as the bound's cosine lies from 1.
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
    if apart <= bound:
        return None
    return f"its {what} lie {apart:.1e} from the model's own, more than {bound:.1e} for {precision}"


def _sigmoid(logits: Float32) -> Float32:
    scores: Float32 = np.float32(1) / (np.float32(1) + np.exp(-logits))
    return scores
