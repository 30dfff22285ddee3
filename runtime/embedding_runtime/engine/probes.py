"""Texts and what the model's own graph gives for them, kept beside the prepared one: whatever runs the graph
on another machine or with another library is compared with them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embedding_runtime.engine.backend import Backend, Float32, Tokens
from embedding_runtime.engine.likeness import unlike
from embedding_runtime.model.prepared import Prepared
from embedding_runtime.settings import Task

_NAME = "probes.npz"


def keep(graph: Path, texts: Sequence[Tokens], rows: Float32) -> None:
    """Write texts and their rows, float32 [b, width], beside a graph.

    Raises OSError.
    """
    types = [np.zeros(len(text), np.uint8) if text.type_ids is None else text.type_ids for text in texts]
    np.savez(
        graph.with_name(_NAME),
        lengths=np.array([len(text) for text in texts], dtype=np.int32),
        ids=np.concatenate([text.ids for text in texts]),
        types=np.concatenate(types),
        unpooled=np.array([text.unpooled for text in texts], dtype=np.int32),
        rows=rows,
    )


def fault(backend: Backend, prepared: Prepared, task: Task) -> str | None:
    """Why a loaded backend's rows cannot stand for the model's own; None where they can.

    Of the model's own graph nothing is known. Raises as `run`.
    """
    path = prepared.path.with_name(_NAME)
    if prepared.plain or not path.is_file():
        return None
    with np.load(path) as kept:
        ends = np.cumsum(kept["lengths"])[:-1]
        # What was kept before there was such a thing has none of it.
        unpooled = kept["unpooled"] if "unpooled" in kept else np.zeros(len(kept["lengths"]), np.int32)
        parts = zip(np.split(kept["ids"], ends), np.split(kept["types"], ends), unpooled, strict=True)
        texts = [Tokens(ids, types if types.any() else None, int(count)) for ids, types, count in parts]
        return unlike(backend.run(texts), kept["rows"], task, backend.precision)
