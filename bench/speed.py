"""How fast one core computes a model's longest text, by precision: `python -m bench.speed`.

Writes GFLOP/s on one thread, the best of some runs, to bench/results/speed.json, by model. The work is
counted as operator/embedding_operator/sets/footprint.py counts it, which has its constant from there.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np

from bench import footprint, shapes
from bench.shapes import Shape
from embedding_runtime.engine.backend import Execution, Tokens
from embedding_runtime.engine.onnx_backend import OnnxBackend
from embedding_runtime.model.prepared import Prepared
from embedding_runtime.model.recipe import read_recipe

RESULTS = Path(__file__).with_name("results") / "speed.json"
MODELS = ("bge-small shape", "bge-base shape", "bge-base shape int8", "bge-base shape fp16")
RUNS = 12


def gflops(folder: Path, shape: Shape) -> float:
    """Return how fast the longest text is computed on one thread, at best."""
    recipe = read_recipe(folder, "m")
    graph = Prepared(folder / "onnx/model.onnx", "fp32", plain=True, note=None, key=folder.name)
    backend = OnnxBackend(graph, recipe, Execution("cpu", 1))
    backend.load()
    text = Tokens(np.ones(recipe.max_tokens, dtype=np.int32))
    taken = []
    for _ in range(RUNS):
        start = time.perf_counter()
        backend.run([text])
        taken.append(time.perf_counter() - start)
    length = recipe.max_tokens
    work = 2 * length * shape.layers * (12 * shape.hidden**2 + 2 * shape.hidden * length)
    return work / min(taken) / 1e9


def main() -> None:
    """Measure and write."""
    found = {}
    for name in MODELS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "model")
            shapes.lay_out(footprint.RANDOM[name], footprint.tokenizer(), folder)
            found[name] = round(gflops(folder, footprint.RANDOM[name]), 1)
        print(name, found[name], flush=True)
    result = {"command": "python -m bench.speed", "gflops_per_core": found}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
