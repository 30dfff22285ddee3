"""What a prepared graph is worth and costs, beside the repository's own: `python -m bench.preparation`.

all-MiniLM-L6-v2 on the CPU, both graphs in turn in one run: time to build the session, CPU time of batches,
how far a text's vector moves with its company, memory of a process that has run one; and what making a graph,
finding it, and the first and the next starts of a server take. Writes bench/results/preparation.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from bench import shapes
from bench.figures import Figure, repeated
from bench.footprint import MIB, RANDOM, TICKS, pss, repositories, tokenizer, tree
from bench.suite import machine
from embedding_runtime.engine.backend import Execution, Float32, Tokens
from embedding_runtime.engine.onnx_backend import OnnxBackend
from embedding_runtime.model.prepared import Prepared, Target
from embedding_runtime.model.source import ModelSource, open_source
from embedding_runtime.registry.cache import find_folder
from embedding_runtime.service.preparation import prepare
from tests.integration.runtime.server import environment, serving

RESULTS = Path(__file__).with_name("results") / "preparation.json"
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SHAPES = ("bge-small shape", "bge-base shape")
BATCHES = ((1, 16), (32, 32), (8, 128), (4, 256))
LOADS, RUNS, PROCESSES, MAKES, STARTS, COMPANY = 5, 15, 3, 3, 3, 63
THREADS = 2


def backend(graph: Prepared, source: ModelSource) -> OnnxBackend:
    return OnnxBackend(graph, source.recipe, Execution("cpu", THREADS))


def loads(graphs: dict[str, Prepared], source: ModelSource) -> dict[str, Figure]:
    """Milliseconds until a session is there."""
    taken: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(LOADS):
        for name, graph in graphs.items():
            loaded = backend(graph, source)
            taken[name].append(1000 * timed(time.perf_counter, loaded.load))
            loaded.close()
    return {name: repeated(values) for name, values in taken.items()}


def batches(ready: dict[str, OnnxBackend]) -> dict[str, dict[str, Figure]]:
    """CPU milliseconds of a batch, by its texts and their tokens."""
    random = np.random.default_rng(0)
    found = {}
    for count, length in BATCHES:
        ids = random.integers(1000, 20000, (count, length)).astype(np.int32)
        texts = [Tokens(row) for row in ids]
        taken: dict[str, list[float]] = {name: [] for name in ready}
        for _ in range(RUNS):
            for name, each in ready.items():
                taken[name].append(1000 * timed(time.process_time, partial(each.run, texts)))
        found[f"{count} x {length}"] = {name: repeated(values, 2) for name, values in taken.items()}
    return found


def company(ready: dict[str, OnnxBackend]) -> dict[str, float]:
    """The most that any number of any vector moves between a text alone and among others."""
    random = np.random.default_rng(1)
    lengths = random.integers(3, 200, COMPANY + 1)
    texts = [Tokens(random.integers(1000, 20000, length).astype(np.int32)) for length in lengths]

    def moved(each: OnnxBackend) -> float:
        alone: Float32 = np.concatenate([each.run([text]) for text in texts])
        return float(np.abs(each.run(texts) - alone).max())

    return {name: moved(each) for name, each in ready.items()}


def memory() -> dict[str, dict[str, Figure]]:
    """PSS in MiB of a process that holds a model and has run it, by model.

    The real one's own graph keeps its weights in another file, that of a shape in itself, as most do.
    """
    found = {}
    for model in (MODEL, *SHAPES):
        with tempfile.TemporaryDirectory() as scratch:
            folder = repositories() / MODEL
            if model != MODEL:
                folder = Path(scratch, "model")
                shapes.lay_out(RANDOM[model], tokenizer(), folder)
            graphs = both(opened(folder), Path(scratch, "shelf"))
            taken: dict[str, list[float]] = {name: [] for name in graphs}
            for _ in range(PROCESSES):
                for name, graph in graphs.items():
                    command = [sys.executable, "-m", "bench.preparation", str(folder), str(graph.path), name]
                    told = subprocess.run(command, capture_output=True, text=True, check=True)
                    taken[name].append(int(told.stdout) / MIB)
        found[model] = {name: repeated(values) for name, values in taken.items()}
    return found


def opened(folder: Path) -> ModelSource:
    return open_source(find_folder(folder, MODEL, None), None)


def both(source: ModelSource, shelf: Path) -> dict[str, Prepared]:
    return {"own": Prepared.as_it_is(source), "prepared": prepare(source, Target.of(source), [shelf])}


def hold(folder: Path, path: Path, name: str) -> None:
    """Run as the process of `memory`."""
    source = opened(folder)
    each = backend(Prepared(path, "fp32", plain=name == "own", note=None, key=""), source)
    each.load()
    each.warm_up()
    print(pss(os.getpid()))


def makes(source: ModelSource) -> dict[str, Figure]:
    """Seconds to make and check a graph, and to find one."""
    taken: dict[str, list[float]] = {"made": [], "found": []}
    for _ in range(MAKES):
        with tempfile.TemporaryDirectory() as shelf:
            for values in taken.values():
                values.append(
                    timed(time.perf_counter, lambda: prepare(source, Target.of(source), [Path(shelf)]))
                )
    return {name: repeated(values, 2) for name, values in taken.items()}


def starts(folder: Path) -> dict[str, Figure]:
    """Seconds from the start of a server to its readiness, one HTTP process; and of CPU that they took."""
    taken: dict[str, list[float]] = {"first": [], "next": []}
    spent: dict[str, list[float]] = {f"{name}, CPU": [] for name in taken}
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as scratch:
            home = Path(scratch)
            said = home / "models.json"
            said.write_text(json.dumps({"models": [{"id": MODEL, "path": str(folder)}]}))
            variables = environment(home, DEFAULT_EMBEDDING_MODEL=MODEL, MODELS_CONFIG=str(said))
            for name, values in taken.items():
                begun = time.perf_counter()
                with serving(variables, home / "log") as server:
                    server.wait_until("ready")
                    values.append(time.perf_counter() - begun)
                    spent[f"{name}, CPU"].append(cpu_seconds(server.process.pid))
    return {name: repeated(values, 2) for name, values in {**taken, **spent}.items()}


def cpu_seconds(root: int) -> float:
    """What a process and its children have taken, those that they waited for included."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split() for pid in tree(root)]
    return sum(int(value) for each in fields for value in each[11:15]) / TICKS


def timed(clock: Callable[[], float], run: Callable[[], object]) -> float:
    begun = clock()
    run()
    return clock() - begun


def main() -> None:
    """Measure and write."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = repositories() / MODEL
        source = opened(folder)
        graphs = both(source, Path(scratch, "shelf"))
        result = {"command": "python -m bench.preparation", "model": MODEL, "threads": THREADS}
        result["machine"] = machine(THREADS)
        result["load_ms"] = loads(graphs, source)
        ready = {name: backend(graph, source) for name, graph in graphs.items()}
        for each in ready.values():
            each.load()
            each.warm_up()
        result["batch_cpu_ms"] = batches(ready)
        result["moved_by_company"] = company(ready)
        result["memory_mib"] = memory()
        result["prepare_seconds"] = makes(source)
        result["start_seconds"] = starts(folder)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        hold(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    else:
        main()
