"""What batches cost on this machine: `python -m bench.calibrate`.

Calibrates all-MiniLM-L6-v2 as the server does, by CPU time and by wall-clock time in turns. Writes the last
table by each clock to bench/results/calibration.json, with the texts per second that they mean and the load
that the machine was under. `bench.simulate` takes the table of one clock.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from bench import footprint
from bench.suite import machine
from embedding_runtime.engine.backend import Execution
from embedding_runtime.engine.calibration import Calibration, calibrate, clock_of
from embedding_runtime.engine.onnx_backend import OnnxBackend
from embedding_runtime.model.prepared import Prepared
from embedding_runtime.model.recipe import read_recipe

RESULTS = Path(__file__).with_name("results") / "calibration.json"
MODEL, GRAPH = footprint.REAL["all-MiniLM-L6-v2"], "onnx/model.onnx"
REPEATS = 3


def described(found: Calibration) -> dict[str, object]:
    """The table, and the tokens per second of every batch in it."""
    rates = {
        f"{texts}x{length}": round(1000 * texts * length / ms)
        for length, curve in found.curves
        for texts, ms in curve
    }
    return {"calibration": found.to_json(), "tokens_per_second": rates}


def main() -> None:
    """Measure, write, print."""
    folder = footprint.repositories() / MODEL
    recipe, threads = read_recipe(folder, MODEL), len(os.sched_getaffinity(0))
    prepared = Prepared(folder / GRAPH, "fp32", plain=True, note=None, key="bench")
    backend = OnnxBackend(prepared, recipe, Execution("cpu", threads))
    backend.load()
    backend.warm_up()
    clocks: dict[str, Callable[[], float]] = {
        "cpu_time": clock_of("cpu", threads),
        "wall_clock": time.perf_counter,
    }
    load = os.getloadavg()[0]
    found: dict[str, list[Calibration]] = {name: [] for name in clocks}
    for _ in range(REPEATS):
        for name, clock in clocks.items():
            found[name].append(calibrate(backend, recipe.max_tokens, clock=clock))
    result = {
        "command": "python -m bench.calibrate",
        "machine": machine(threads),
        "load_average": round(load, 1),
        **{name: described(tables[-1]) for name, tables in found.items()},
        "one_text_of_16_tokens_ms": {
            name: [round(table.milliseconds(1, 16), 2) for table in tables] for name, tables in found.items()
        },
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["one_text_of_16_tokens_ms"]))
    for name in clocks:
        print(name, json.dumps(described(found[name][-1])["tokens_per_second"]))


if __name__ == "__main__":
    main()
