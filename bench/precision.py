"""What each backend and precision costs on this CPU, and how far it moves vectors.

`python -m bench.precision` runs all-MiniLM-L6-v2's prepared graphs through the engine's own backends with two
threads on real texts, in turn within one run. Writes bench/results/precision.json: for each way texts per
second and CPU milliseconds per text (medians over the repeats; neighbours on the machine stretch the former),
sorted in batches of 1,024 padded tokens and one by one; the least cosine to the fp32 vectors; and that of a
text alone to itself among 63 others.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench import corpus, footprint, raw
from embedding_runtime.engine.backend import Backend, Execution, Float32, Tokens
from embedding_runtime.engine.choice import make_backend
from embedding_runtime.engine.machine import cpu_name
from embedding_runtime.errors import ModelError
from embedding_runtime.model.precision import computed_in
from embedding_runtime.model.prepared import Target
from embedding_runtime.model.source import ModelSource, open_source
from embedding_runtime.registry.cache import find_folder
from embedding_runtime.service.preparation import prepare
from embedding_runtime.service.tokenization import Tokenization
from embedding_runtime.settings import Precision

RESULTS = Path(__file__).with_name("results") / "precision.json"
WAYS: tuple[tuple[str, Precision], ...] = (
    ("cpu", "fp32"),
    ("cpu", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
)
TEXTS, SINGLE, COMPANY, REPEATS, THREADS = 200, 60, 64, 3, 2
BATCHES = "sorted, 1,024 padded tokens"


def backends(source: ModelSource, folder: Path) -> dict[str, Backend]:
    """Every way that this machine can run, loaded and warm, by name."""
    found = {}
    for provider, precision in WAYS:
        graph = prepare(source, Target.of(source, precision), [folder])
        execution = Execution(provider, THREADS, computed_in(precision, source.precision))
        try:
            backend = make_backend(graph, source.recipe, execution)
            backend.load()
        except ModelError as error:
            print(f"{provider} {precision}: {error.message}")
            continue
        backend.warm_up()
        found[f"{provider} {precision}"] = backend
    return found


def taken(backend: Backend, texts: Sequence[Tokens], plan: Sequence[raw.Batch]) -> tuple[float, float]:
    """Texts per second, and milliseconds of CPU time for each text."""
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in plan:
        backend.run([texts[index] for index in batch])
    count = sum(map(len, plan))
    return count / (time.perf_counter() - wall), 1000 * (time.process_time() - cpu) / count


def least_cosine(left: Float32, right: Float32) -> float:
    """The least cosine between two rows of the same place."""
    one, other = left.astype(np.float64), right.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / lengths).min())


def main() -> None:
    """Measure and write."""
    folder = footprint.repositories() / footprint.REAL["all-MiniLM-L6-v2"]
    source = open_source(find_folder(folder, folder.name, None), None)
    texts = corpus.read(source.tokenizer_path).first(TEXTS)
    tokens = Tokenization(source.tokenizer_path, source.recipe).embed(list(texts.texts))
    plans = raw.plans([len(each) for each in tokens])
    plan = {BATCHES: plans[BATCHES], raw.ONE_BY_ONE: plans[raw.ONE_BY_ONE][:SINGLE]}
    with tempfile.TemporaryDirectory() as scratch:
        ways = backends(source, Path(scratch))
        found: dict[str, dict[str, list[tuple[float, float]]]] = {
            name: {cut: [] for cut in plan} for name in ways
        }
        for name, backend in ways.items():  # shapes that were never seen cost more, once
            taken(backend, tokens, plan[BATCHES])
            print(name, "warm", flush=True)
        for _ in range(REPEATS):
            for name, backend in ways.items():
                for cut, batches in plan.items():
                    found[name][cut].append(taken(backend, tokens, batches))
        alone = {
            name: np.concatenate([each.run([text]) for text in tokens[:COMPANY]])
            for name, each in ways.items()
        }
        together = {name: each.run(tokens[:COMPANY]) for name, each in ways.items()}
    results = {
        name: {
            **{
                cut: {
                    "texts_per_second": round(statistics.median(rate for rate, _ in pairs), 1),
                    "cpu_ms_per_text": round(statistics.median(ms for _, ms in pairs), 2),
                }
                for cut, pairs in cuts.items()
            },
            "least_cosine_to_fp32": round(least_cosine(together[name], alone["cpu fp32"]), 7),
            "least_cosine_in_company": round(least_cosine(together[name], alone[name]), 7),
        }
        for name, cuts in found.items()
    }
    head = {"command": "python -m bench.precision", "cpu": cpu_name(), "corpus": texts.described()}
    RESULTS.write_text(json.dumps({**head, "ways": results}, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
