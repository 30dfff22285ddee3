"""The ceiling: the raw engine on the same texts, without a server, a pool or a policy around it.

Texts are tokenised before and only inference is timed; pooling and everything else a server does is left out,
so no server reaches this on one text at a time. Each way to cut the texts into batches is a plan; the ceiling
is the fastest of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# The same build as the server's, which switches its telemetry off before the import too.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

from bench import corpus
from embedding_runtime.engine.onnx_backend import SLOWER_ON_CPU

Int64 = NDArray[np.int64]
Batch = list[int]
ONE_BY_ONE = "one by one"
SINGLE_TEXTS = 96


def plans(lengths: Sequence[int]) -> dict[str, list[Batch]]:
    """Every way that is measured: a name, and which texts go together."""
    ordered = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    found = {ONE_BY_ONE: [[index] for index in range(min(SINGLE_TEXTS, len(lengths)))]}
    for budget in (512, 1024, 2048):
        found[f"sorted, {budget:,} padded tokens"] = list(_by_tokens(ordered, lengths, budget))
    return found


def _by_tokens(ordered: Sequence[int], lengths: Sequence[int], budget: int) -> Iterator[Batch]:
    batch: Batch = []
    for index in ordered:  # the longest first: it gives a batch its width
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


class Raw:
    """One engine with one model loaded. `name` says engine and precision."""

    def __init__(
        self, name: str, version: str, model: Path, infer: Callable[[dict[str, Int64]], object]
    ) -> None:
        self.name, self.version = name, version
        self._tokenizer = corpus.bare(model / "tokenizer.json")
        self._infer = infer

    def __call__(self, texts: Sequence[str], batches: Sequence[Batch]) -> list[float]:
        """Run the batches in turn; the seconds of each."""
        encoded = [entry.ids for entry in self._tokenizer.encode_batch(list(texts))]
        feeds = [_feed([encoded[index] for index in batch]) for batch in batches]
        taken = []
        for feed in feeds:
            start = time.perf_counter()
            self._infer(feed)
            taken.append(time.perf_counter() - start)
        return taken

    def token_vectors(self, text: str) -> NDArray[np.float32]:
        """The model's own output for one text, float32 [tokens, width]."""
        output: NDArray[np.float32] = np.asarray(self._infer(_feed([self._tokenizer.encode(text).ids])))
        row: NDArray[np.float32] = output[0]
        return row


def _feed(rows: Sequence[Sequence[int]]) -> dict[str, Int64]:
    shape = (len(rows), max(map(len, rows)))
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
        mask[at, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros(shape, np.int64)}


def onnx_runtime(model: Path, threads: int, *, served: bool = False) -> Raw:
    """ONNX Runtime on the CPU at fp32, with the options that it has by itself; `served`: with what our
    server has it fuse.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(
        str(model / "onnx/model.onnx"),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=SLOWER_ON_CPU if served else (),
    )
    names = {entry.name for entry in session.get_inputs()}

    def infer(feed: dict[str, Int64]) -> object:
        return session.run(
            ["last_hidden_state"], {name: array for name, array in feed.items() if name in names}
        )[0]

    name = "ONNX Runtime as served fp32" if served else "ONNX Runtime fp32"
    return Raw(name, ort.__version__, model, infer)


def openvino(model: Path, threads: int, precision: str) -> Raw:
    """OpenVINO on the CPU; precision as its hint has it: f32 or bf16."""
    import openvino as ov

    core = ov.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(str(model / "onnx/model.onnx"), "CPU", settings)
    names = {name for port in compiled.inputs for name in port.names}
    request = compiled.create_infer_request()

    def infer(feed: dict[str, Int64]) -> object:
        return request.infer({name: array for name, array in feed.items() if name in names})[0]

    named = {"f32": "fp32"}.get(precision, precision)
    return Raw(f"OpenVINO {named}", ov.__version__, model, infer)


ENGINES: dict[str, Callable[[Path, int], Raw]] = {
    "ONNX Runtime fp32": onnx_runtime,
    "ONNX Runtime as served fp32": lambda model, threads: onnx_runtime(model, threads, served=True),
    "OpenVINO fp32": lambda model, threads: openvino(model, threads, "f32"),
    "OpenVINO bf16": lambda model, threads: openvino(model, threads, "bf16"),
}
"""What our servers stand on."""
