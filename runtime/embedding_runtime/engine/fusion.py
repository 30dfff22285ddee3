"""What ONNX Runtime makes of a graph when it loads it: which nodes really run, by its own profile."""

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from embedding_runtime.engine.onnx_backend import inputs_of, open_session
from embedding_runtime.model.shape import read_shape

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
        "Gelu",
        "FusedMatMul",
        "FusedGemm",
    }
)
_SAME = {"SkipLayerNormalization": "LayerNormalization"}

# Encoders with one normalisation after the embeddings, two in each layer, and one activation in each.
_ENCODERS = frozenset({"bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta"})
_GELUS = frozenset({"gelu", "gelu_new", "gelu_pytorch_tanh"})
_COUNTS_AS = {"BiasGelu": "GELU", "FastGelu": "GELU", "Gelu": "GELU"}


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


def expected(config: Path) -> Counter[str]:
    """How many fused nodes of each kind the architecture of a config.json should give on a CPU; GELU stands
    for all its kinds. Nothing for an architecture that is not known. Raises nothing.

    Attention is not among them: whether it is fused on a CPU depends on the exporter, and is as fast either
    way.
    """
    try:
        said: Any = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Counter()
    shape = read_shape(config)
    if shape is None or said.get("model_type") not in _ENCODERS:
        return Counter()
    wanted = Counter({"LayerNormalization": 2 * shape.layers + 1})
    if said.get("hidden_act", said.get("activation")) in _GELUS:
        wanted["GELU"] = shape.layers
    return wanted


def expected_attention(config: Path) -> Counter[str]:
    """The same of a graph for GPUs whose attention is fused before ONNX Runtime sees it: one a layer."""
    shape = read_shape(config)
    return Counter(MultiHeadAttention=shape.layers) if shape else Counter()


def unfused(wanted: Counter[str], found: Counter[str]) -> str | None:
    """Which of the expected nodes are not there, as `3 of 13 LayerNormalization`; None: all are. Pure."""
    had = Counter[str]()
    for kind, count in found.items():
        had[_COUNTS_AS.get(kind, kind)] += count
    # The normalisation after the embeddings may be one node with them.
    had["LayerNormalization"] += had["EmbedLayerNormalization"]
    missing = wanted - had
    return ", ".join(f"{count} of {wanted[kind]} {kind}" for kind, count in sorted(missing.items())) or None
