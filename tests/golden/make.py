"""Computes the golden vectors and scores with sentence-transformers in PyTorch (`make golden`).

Needs `requirements/golden.txt`, in an environment of its own. Writes beside itself:
    all-MiniLM-L6-v2.npy          float32 [texts, 384], from the original safetensors
    bert-tiny-cross-encoder.json  for each query of `texts.QUERIES` its documents' raw scores (logits)
    small/                        a repository of each architecture that is converted, and what it gives
and `e2e/demo/reference.json`, the one vector that the demo compares with.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.numpy import save_file
from sentence_transformers import CrossEncoder, SentenceTransformer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from e2e.mirror import models  # noqa: E402
from tests.golden import small  # noqa: E402
from tests.golden.texts import QUERIES, TEXTS  # noqa: E402

DEMO_TEXT = "How does a plant make sugar from sunlight?"


def vectors(folder: Path) -> None:
    """Write the embedding model's vectors of every text, and the demo's one."""
    model = SentenceTransformer(str(folder), device="cpu")
    rows = np.concatenate([model.encode([text]) for text in TEXTS]).astype(np.float32)
    np.save(HERE / "all-MiniLM-L6-v2.npy", rows)
    reference = {
        "text": DEMO_TEXT,
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "vector": [round(float(value), 8) for value in model.encode([DEMO_TEXT])[0]],
    }
    demo = ROOT / "e2e" / "demo" / "reference.json"
    demo.parent.mkdir(exist_ok=True)
    demo.write_text(json.dumps(reference) + "\n")


def pytorch_weights(graph: Path) -> dict[str, np.ndarray]:
    """Return the BERT classifier's weights as PyTorch names them, from the fixture's ONNX graph.

    The graph keeps those names; what it multiplies from the right it stores transposed, as `<name>_t`.
    """
    weights = {}
    for initializer in onnx.load(graph).graph.initializer:
        name = initializer.name
        if "." not in name:
            continue  # a constant of the graph, not a weight
        value = numpy_helper.to_array(initializer)
        if name.endswith("_t"):
            name, value = name.removesuffix("_t"), value.T
        plain = name if name.startswith("classifier.") else f"bert.{name}"
        weights[plain] = np.ascontiguousarray(value)
    return weights


def scores(scratch: Path) -> None:
    """Write the reranker's raw scores of every query's documents."""
    fixture = models.FIXTURES / "bert-tiny-cross-encoder"
    folder = scratch / "cross-encoder"
    shutil.copytree(fixture, folder, ignore=shutil.ignore_patterns("onnx"))
    weights = pytorch_weights(fixture / "onnx" / "model.onnx")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity())
    told = [
        [float(model.predict([(query, document)])[0]) for document in documents]
        for query, documents in QUERIES
    ]
    (HERE / "bert-tiny-cross-encoder.json").write_text(json.dumps(told, indent=1) + "\n")


def main() -> None:
    """Compute everything."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        models.lay_out(scratch / "models")
        vectors(scratch / "models" / "sentence-transformers" / "all-MiniLM-L6-v2")
        scores(scratch)
    small.write()


if __name__ == "__main__":
    main()
