"""What a GPU does, in one command and less than ten minutes: `python -m bench.gpu` (`make bench-gpu`).

A model of bge-base's shape with random weights, texts of 128 tokens: tokens per second of the engine, for
each graph that the engine would choose from; of the server over HTTP with binary answers; the latency of one
text; the cosine of fp16 to fp32 vectors. Writes bench/results/gpu.json. With `--rehearse` a small model on
the CPU goes the same way and nothing is written: so one sees without a GPU whether the script works.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from bench import corpus, footprint, shapes
from bench.figures import Figure, milliseconds, repeated
from bench.load import Address, Closed, drive, post
from bench.peers import ours
from bench.running import running
from bench.shapes import Shape
from bench.suite import machine
from embedding_runtime.engine.backend import Backend, Execution, Float32, Tokens
from embedding_runtime.engine.choice import candidates
from embedding_runtime.engine.device import OnDevice
from embedding_runtime.engine.gpu import Gpu, nvml
from embedding_runtime.engine.probes import fault
from embedding_runtime.model.prepared import Prepared, Target
from embedding_runtime.model.source import ModelSource, open_source
from embedding_runtime.registry.cache import find_folder
from embedding_runtime.service.preparation import prepare
from embedding_runtime.settings import Precision

RESULTS = Path(__file__).with_name("results") / "gpu.json"
TOKENS, BATCHES = 128, (32, 64, 128, 256, 512)
TARGETS = {"engine_tokens_per_s": 1.5e6, "http_tokens_per_s": 1.0e6, "single_p99_ms": 10.0}


@dataclass(frozen=True)
class Plan:
    """What is measured on what, and for how long."""

    provider: str
    shape: Shape
    seconds: float
    repeats: int
    batches: tuple[int, ...]
    clients: int
    texts: int
    singles: int


GPU = Plan("cuda", footprint.RANDOM["bge-base shape"], 2.0, 5, BATCHES, 64, 64, 400)
REHEARSAL = Plan("cpu", Shape(2, 64, 2), 0.1, 2, (4, 8), 2, 4, 5)


def batch(texts: int, seed: int = 0) -> list[Tokens]:
    """Texts of TOKENS random tokens."""
    ids = np.random.default_rng(seed).integers(1000, 20000, (texts, TOKENS)).astype(np.int32)
    return [Tokens(row) for row in ids]


def tokens_per_second(backend: Backend, texts: int, seconds: float) -> float:
    """Batches one after the other, the next begun before the last is done, as the server has them."""
    given, done, pending = batch(texts), 0, None
    backend.run(given)
    begun = time.perf_counter()
    while time.perf_counter() < begun + seconds:
        if isinstance(backend, OnDevice) and backend.overlaps:
            following = backend.start(given)
            if pending is not None:
                pending()
            pending = following
        else:
            backend.run(given)
        done += texts
    if pending is not None:
        pending()
    return done * TOKENS / (time.perf_counter() - begun)


def name_of(backend: Backend) -> str:
    """Precision, provider and graph."""
    variant = f" {backend.variant}" if isinstance(backend, OnDevice) else ""
    return f"{backend.precision} {backend.provider}{variant}"


def engine(plan: Plan, source: ModelSource, graph: Prepared) -> tuple[dict[str, object], Float32]:
    """Each way to run the graph: tokens per second by texts in a batch, latency of one; and its rows."""
    found: dict[str, object] = {}
    rows: Float32 = np.empty((0, 0), dtype=np.float32)
    execution = Execution(plan.provider, os.cpu_count() or 1, graph.precision)
    for backend in candidates(graph, source.recipe, execution):
        backend.load()
        backend.warm_up()
        told: dict[str, object] = {"fallback": backend.fallback}
        told["fault"] = fault(backend, graph, source.recipe.task)
        told["tokens_per_s"] = {
            texts: repeated([tokens_per_second(backend, texts, plan.seconds) for _ in range(plan.repeats)], 0)
            for texts in plan.batches
        }
        taken = []
        for seed in range(plan.singles):
            given = batch(1, seed)
            asked = time.perf_counter()
            backend.run(given)
            taken.append(time.perf_counter() - asked)
        told["single"] = milliseconds(taken)
        rows = backend.run(batch(16, seed=1))
        backend.close()
        found[name_of(backend)] = told
        print(name_of(backend), json.dumps(told), flush=True)
    return found, rows


def clients(address: Address, count: int, texts: int, seconds: float) -> float:
    """Texts per second of some clients in a process of their own."""
    body = {"input": list(corpus.uniform(texts, TOKENS))}
    request = post("/embed", body, texts, {"Accept": "application/octet-stream"})
    (run,) = drive(address, Closed([request], count, seconds))
    return run.texts_per_second


def server(plan: Plan, folder: Path, scratch: Path, precision: Precision) -> dict[str, object]:
    """Tokens per second and latency through HTTP with binary answers."""
    workers = str(min(16, os.cpu_count() or 1))
    peer = ours.peer(folder, scratch, precision, plan.provider, binary=True)
    settings = {**peer.environment, "API_WORKERS": workers, "MAX_QUEUE_TOKENS": "4194304"}
    processes = min(4, plan.clients)
    with (
        running(replace(peer, environment=settings), scratch) as up,
        ProcessPoolExecutor(processes, get_context("spawn")) as pool,
    ):
        rates = []
        for _ in range(plan.repeats):
            each = plan.clients // processes
            asked = [
                pool.submit(clients, up.address, each, plan.texts, 2 * plan.seconds) for _ in range(processes)
            ]
            rates.append(sum(future.result() for future in asked) * TOKENS)
        one = post("/embed", {"input": list(corpus.uniform(1, TOKENS))}, 1, peer.headers)
        (single,) = drive(up.address, Closed([one] * plan.singles, 1))
        found: dict[str, object] = {
            "api_workers": int(workers),
            "clients": plan.clients,
            "texts_per_request": plan.texts,
            "tokens_per_s": repeated(rates, 0),
            "single": milliseconds(single.latencies),
            "memory_mib": up.memory_mib(),
        }
    print("server", json.dumps(found), flush=True)
    return found


def cosine(rows: Float32, others: Float32) -> float:
    """The least of the rows' cosines."""
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
    return float(((rows * others).sum(axis=1) / lengths).min())


def measured(plan: Plan, precisions: Sequence[Precision] = ("fp32", "fp16")) -> dict[str, object]:
    """Everything, on a model that is made for it."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as home:
        folder, scratch = Path(home, "model"), Path(home, "scratch")
        scratch.mkdir()
        shapes.lay_out(plan.shape, footprint.tokenizer(), folder)
        source = open_source(find_folder(folder, "bench", None), None)
        engines: dict[str, object] = {}
        rows: dict[str, Float32] = {}
        for precision in precisions:
            graph = prepare(source, Target.of(source, precision), [scratch / "prepared"])
            found, rows[precision] = engine(plan, source, graph)
            engines |= found
        return {
            "model": f"{plan.shape.layers} x {plan.shape.hidden}, random weights; {TOKENS} tokens a text",
            "engine": engines,
            "http": server(plan, folder, scratch, precisions[-1]),
            "least_cosine_to_fp32": cosine(rows[precisions[-1]], rows["fp32"]),
            "targets": TARGETS,
            "seconds": round(time.perf_counter() - begun, 1),
        }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="small, on the CPU; writes nothing")
    if parser.parse_args().rehearse:
        found = measured(REHEARSAL, ("fp32",))
    else:
        gpu: Figure = {"gpu": Gpu(nvml).name(), **machine(os.cpu_count() or 1)}
        found = {"command": "python -m bench.gpu", "machine": gpu, **measured(GPU)}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
