"""What ONNX Runtime makes of a graph when it loads it: which nodes really run, by its own profile."""

import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from embedding_runtime.engine.onnx_backend import inputs_of, open_session

import onnxruntime as ort  # isort: skip  after onnx_backend, which switches its telemetry off

# What ONNX Runtime makes of several of an encoder's nodes. A normalisation counts with and without the
# addition before it: on a CPU they are kept apart (`onnx_backend`, and `model/norms.py`).
_FUSED = frozenset(
    {
        "Attention",
        "MultiHeadAttention",
        "EmbedLayerNormalization",
        "LayerNormalization",
        "BiasGelu",
        "FastGelu",
        "FusedMatMul",
        "FusedGemm",
    }
)
_SAME = {"SkipLayerNormalization": "LayerNormalization"}


def fused_nodes(path: Path) -> Counter[str]:
    """How many nodes of each fused kind one inference runs, on the CPU.

    Raises what ONNX Runtime raises for a graph that does not load or run.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/profile"
        session = open_session(path, options)
        inputs, derived = inputs_of(session)
        text = np.ones((1, 2), dtype=np.int32)
        feed = {name: text.astype(kind) for name, kind in inputs.items()}
        feed |= {each.name: each.array(text, kind) for each, kind in derived}
        session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kinds = (event["args"]["op_name"] for event in events if event["name"].endswith("_kernel_time"))
    return Counter(kind for kind in (_SAME.get(kind, kind) for kind in kinds) if kind in _FUSED)


def lost(plain: Counter[str], prepared: Counter[str]) -> str:
    """Which fused nodes of the plain graph the prepared one lacks; empty where none. Pure."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted((plain - prepared).items()))
