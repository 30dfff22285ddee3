"""Whether fusing an encoder's nodes beforehand pays on a CPU: `python -m bench.fusion FILE HEADS HIDDEN`.

The graph as it is, which ONNX Runtime fuses itself as far as it can when it loads it, beside the one that
ONNX Runtime's optimizer for transformers makes of it: CPU time of batches, both in turn in one run. Adds to
bench/results/fusion.json by the file's name. Needs sympy, which nothing else here does.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from onnxruntime.transformers.optimizer import optimize_model

from bench.figures import Figure, repeated
from bench.suite import machine
from embedding_runtime.engine.fusion import fused_nodes

import onnxruntime as ort  # isort: skip  after fusion, which switches its telemetry off

RESULTS = Path(__file__).with_name("results") / "fusion.json"
BATCHES = ((1, 16), (32, 32), (8, 128), (2, 512))
RUNS, THREADS = 15, 2


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = THREADS, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def milliseconds(each: ort.InferenceSession, count: int, length: int) -> float:
    random = np.random.default_rng(0)
    kinds = {entry.name: np.int32 if "int32" in entry.type else np.int64 for entry in each.get_inputs()}
    feed = {name: np.full((count, length), int("mask" in name), kind) for name, kind in kinds.items()}
    feed["input_ids"] = random.integers(1000, 20000, (count, length)).astype(kinds["input_ids"])
    begun = time.process_time()
    each.run(None, feed)
    return 1000 * (time.process_time() - begun)


def main(path: Path, heads: int, hidden: int) -> None:
    """Measure and write."""
    with tempfile.TemporaryDirectory() as scratch:
        fused = Path(scratch, "fused.onnx")
        optimize_model(
            str(path), "bert", num_heads=heads, hidden_size=hidden, opt_level=0
        ).save_model_to_file(str(fused))
        graphs = {"as it is": path, "fused": fused}
        sessions = {name: session(graph) for name, graph in graphs.items()}
        figures: dict[str, dict[str, Figure]] = {}
        for count, length in BATCHES:
            taken: dict[str, list[float]] = {name: [] for name in graphs}
            for _ in range(RUNS):
                for name, each in sessions.items():
                    taken[name].append(milliseconds(each, count, length))
            figures[f"{count} x {length}"] = {name: repeated(values, 2) for name, values in taken.items()}
        nodes = {name: dict(fused_nodes(graph)) for name, graph in graphs.items()}
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[path.name] = {
        "command": f"python -m bench.fusion {path.name} {heads} {hidden}",
        "machine": machine(THREADS),
        "fused_nodes": nodes,
        "batch_cpu_ms": figures,
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results[path.name], indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
