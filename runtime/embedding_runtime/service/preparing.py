"""The process that makes one prepared graph and compares it with the model's own, then ends.

Started by `preparation`, which writes what to make to its stdin: `python -m
embedding_runtime.service.preparing`. What it made lies on the shelf; what kept it from making it is the last
line of its stderr.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embedding_runtime.engine.backend import Execution, Float32, Tokens
from embedding_runtime.engine.fusion import fused_nodes, lost
from embedding_runtime.engine.likeness import unlike
from embedding_runtime.engine.onnx_backend import OnnxBackend
from embedding_runtime.engine.probes import keep
from embedding_runtime.errors import RuntimeFault
from embedding_runtime.lifeline import die_with
from embedding_runtime.model.prepared import Prepared, Target
from embedding_runtime.model.rewriting import rewrite
from embedding_runtime.model.shelf import GRAPH, find, key, making, publish
from embedding_runtime.model.source import ModelSource
from embedding_runtime.service.tokenization import Tokenization

# Other models' requests go before.
_NICENESS = 10

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
                publish(scratch, name, source, target, _make(source, target, scratch))
    except OSError as error:
        return _failed(f"{error.strerror}: {error.filename or folder}")
    except RuntimeFault as error:
        return _failed(error.message)
    return 0


def _failed(why: str) -> int:
    print(why, file=sys.stderr)
    return 1


def _make(source: ModelSource, target: Target, scratch: Path) -> str | None:
    """Make the graph in `scratch`; why it can never be used, None where it can.

    Raises OSError, and RuntimeFault for what may go another time.
    """
    try:
        made = target.precision if target.precision != source.precision else None
        rewrite(source.graph_path, source.recipe, scratch, to=made)
        return _fault(source, target, scratch / GRAPH)
    except RuntimeFault as error:
        if not error.permanent:
            raise
        return error.message


def _fault(source: ModelSource, target: Target, graph: Path) -> str | None:
    """What is wrong with a prepared graph; None where nothing is.

    Raises RuntimeFault where one of the graphs does not load or run.
    """
    texts = _probes(source)
    own = Prepared.as_it_is(source)
    made = Prepared(graph, target.precision, plain=False, note=None, key="")
    rows, wanted = (_rows(each, source, texts) for each in (made, own))
    keep(graph, texts, wanted[: len(texts)])
    why = unlike(rows, wanted, source.recipe.task, target.precision)
    if why is not None or target.precision != source.precision:  # of other layers other nodes are fused
        return why
    missing = lost(fused_nodes(own.path), fused_nodes(graph))
    return (
        f"ONNX Runtime does not fuse in it what it fuses in the model's own: {missing}" if missing else None
    )


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
