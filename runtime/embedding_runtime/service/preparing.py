"""The process that makes one prepared graph and compares it with the model's own, then ends.

Started by `preparation`, which writes what to make to its stdin: `python -m
embedding_runtime.service.preparing`. What it made lies on the shelf; what kept it from making it is the last
line of its stderr.
"""

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from embedding_runtime.engine.backend import Execution, Float32, Tokens
from embedding_runtime.engine.fusion import expected, expected_attention, fused_nodes, lost, unfused
from embedding_runtime.engine.likeness import noise_of, unlike
from embedding_runtime.engine.onnx_backend import OnnxBackend
from embedding_runtime.engine.probes import keep
from embedding_runtime.errors import RuntimeFault
from embedding_runtime.lifeline import die_with
from embedding_runtime.model.conversion import convert
from embedding_runtime.model.prepared import Prepared, Target
from embedding_runtime.model.rewriting import rewrite
from embedding_runtime.model.shelf import GRAPH, find, key, making, publish
from embedding_runtime.model.source import ModelSource
from embedding_runtime.service.preparation import UNLUCKY, UNSUPPORTED, UNWRITABLE
from embedding_runtime.service.tokenization import Tokenization

# Other models' requests go before.
_NICENESS = 10

# Where in its folder a graph is made of safetensors.
_OWN = "own"

_QUERY = "How long is the river?"
_PROBES = (
    "fox",
    "The quick brown fox jumps over the lazy dog.",
    "How many people live in Berlin?",
    "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
    "Der Fluss ist 1230 Kilometer lang, und an seinem Ufer liegen drei Städte.",
    "def add(a, b): return a + b  # a sum",
    "¿Cuánto cuesta? 価格はいくらですか。",
    "A river is a natural flowing watercourse, usually freshwater, towards an ocean, sea or lake. " * 3,
)


def main() -> int:
    """Make what stdin asks for, unless it lies there by now; the exit code."""
    asked = json.load(sys.stdin)
    source, target = ModelSource.from_json(asked["source"]), Target(**asked["target"])
    folder = Path(asked["folder"])
    die_with(int(asked["parent"]))
    os.nice(_NICENESS)
    name = key(source, target)
    try:
        with making(folder) as scratch:
            if find([folder], name) is None:
                publish(scratch, name, source, target, *_make(source, target, scratch))
    except OSError as error:
        return _failed(f"{error.strerror}: {error.filename or folder}", UNWRITABLE)
    except RuntimeFault as error:
        return _failed(error.message, UNSUPPORTED if error.permanent else UNLUCKY)
    return 0


def _failed(why: str, code: int) -> int:
    print(why, file=sys.stderr)
    return code


def _make(source: ModelSource, target: Target, scratch: Path) -> tuple[str | None, str | None]:
    """Make the graph in `scratch`: why it can never be used, None where it can; and what is not fused in it.
    Where the model has no graph of its own, one is made first, which stays there if the other cannot be used.

    Raises OSError, and RuntimeFault for what may go another time or for a model that cannot be converted.
    """
    own = Prepared.as_it_is(source)
    if not source.is_converted:
        return _compared(own, source, target, scratch)
    home = scratch / _OWN
    own = replace(own, path=convert(source.graph_path, source.id, home))
    note, missing = _compared(own, source, target, scratch)
    for path in home.iterdir() if note is not None else ():
        path.replace(scratch / path.name)
    shutil.rmtree(home)
    return note, missing


def _compared(
    own: Prepared, source: ModelSource, target: Target, scratch: Path
) -> tuple[str | None, str | None]:
    """Make the graph of the model's own, and compare the two. Raises as `_make`."""
    texts, rounded = _probes(source), target.precision != source.precision
    made = Prepared(scratch / GRAPH, target.precision, plain=False, note=None, key="")
    to = target.precision if rounded else None
    config = source.tokenizer_path.with_name("config.json")
    try:
        # Two things at a time, since readiness waits for it: ONNX Runtime lets go of Python's lock.
        with ThreadPoolExecutor(1) as beside:
            wanted = beside.submit(_rows, own, source, texts)
            whole = None if rounded else beside.submit(fused_nodes, own.path)
            attention = rewrite(own.path, source.recipe, scratch, to=to, repository=source.folder)
            fused = None if rounded else beside.submit(fused_nodes, made.path)
            rows = _rows(made, source, texts)
            together, alone = wanted.result()[: len(texts)], wanted.result()[len(texts) :]
            keep(made.path, texts, together)
            noise = noise_of(together, alone, source.recipe.task)
            why = unlike(rows, wanted.result(), source.recipe.task, target.precision, noise)
            if why:
                return why, None
            if whole is None or fused is None:  # of other layers other nodes are fused
                counted = Counter(MultiHeadAttention=attention)
                return None, unfused(expected_attention(config), counted) if to == "fp16" else None
            missing = lost(whole.result(), fused.result())
    except RuntimeFault as error:
        if not error.permanent:
            raise
        return error.message, None
    if missing:
        return f"ONNX Runtime does not fuse in it what it fuses in the model's own: {missing}", None
    return None, unfused(expected(config), fused.result())


def _probes(source: ModelSource) -> list[Tokens]:
    tokenization = Tokenization(source.tokenizer_path, source.recipe)
    if source.recipe.task == "embed":
        return tokenization.embed(_PROBES)
    return tokenization.pairs(_QUERY, _PROBES)


def _rows(graph: Prepared, source: ModelSource, texts: Sequence[Tokens]) -> Float32:
    """The rows of all texts together, then of each alone."""
    backend = OnnxBackend(graph, source.recipe, Execution("cpu", 1))
    backend.load()
    try:
        return np.concatenate([backend.run(texts), *(backend.run([text]) for text in texts)])
    finally:
        backend.close()


if __name__ == "__main__":
    sys.exit(main())
