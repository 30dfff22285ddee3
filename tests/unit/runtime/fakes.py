"""Ordinary implementations of the runtime's seams, for tests."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from embedding_runtime.engine.backend import Extra, Float32, Outcome, Tokens
from embedding_runtime.engine.calibration import Calibration
from embedding_runtime.engine.grid import Grid
from embedding_runtime.model.recipe import Recipe
from embedding_runtime.model.source import ModelSource
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.registry.catalogue import Catalogue, Entry, Kind
from embedding_runtime.service.state import ModelCard
from embedding_runtime.settings import Task

EMBEDDER = Wanted("org/embedder", task="embed")
RERANKER = Wanted("org/reranker", task="rerank")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


# A tenth of a millisecond for a batch, and a hundredth for each token of it.
COSTS = Calibration(
    tuple(
        (length, tuple((texts, 0.1 + 0.01 * texts * length) for texts in (1, 2, 4, 8))) for length in (8, 64)
    ),
    best_tokens=64,
)


class FakeBackend:
    """Each row is the sum of the text's ids; runs only while `go` is set."""

    provider: str = "cpu"
    precision = "fp32"
    fallback = None
    grid: Grid | None = None
    gives: frozenset[Extra] = frozenset({"norm", "tokens"})

    def __init__(self, failure: Exception | None = None) -> None:
        self.go = threading.Event()
        self.go.set()
        self.running = threading.Event()
        self.failure = failure
        self.batches: list[list[int]] = []
        self.closed = threading.Event()

    def load(self) -> None: ...

    def warm_up(self) -> int:
        return 1

    def run(self, texts: Sequence[Tokens]) -> Float32:
        self.running.set()
        assert self.go.wait(10)
        self.batches.append([len(text) for text in texts])
        if self.failure:
            raise self.failure
        return np.array([[text.ids.sum()] for text in texts], dtype=np.float32)

    def run_with(self, texts: Sequence[Tokens], extras: Sequence[Extra]) -> Outcome:
        return Outcome(self.run(texts), {name: _extra(name, texts) for name in extras})

    def close(self) -> None:
        self.closed.set()


def _extra(name: Extra, texts: Sequence[Tokens]) -> list[Float32]:
    """The number of tokens, or the ids themselves."""
    if name == "norm":
        return [np.array([[len(text)]], dtype=np.float32) for text in texts]
    return [text.ids[:, None].astype(np.float32) for text in texts]


def card(model: Wanted, folder: Path = Path("/nowhere")) -> ModelCard:
    """The card of a loaded model."""
    return ModelCard(
        id=model.name,
        commit=COMMIT,
        folder=folder,
        recipe=recipe(model.task or "embed"),
        precision="fp32",
        fingerprint="f" * 64,
        provider="cpu",
        dimensions=4 if model.task == "embed" else None,
    )


def known(kinds: Mapping[str, Kind]) -> Catalogue:
    """A catalogue of models of these kinds."""
    return Catalogue(tuple(Entry(name, kind, None, ()) for name, kind in kinds.items()))


def source(wanted: Wanted, size: int = 100) -> ModelSource:
    """A model of so many bytes as it lies on disk."""
    return ModelSource(
        id=wanted.name,
        commit=COMMIT,
        folder=Path("/nowhere"),
        graph="onnx/model.onnx",
        recipe=recipe(wanted.task or "embed"),
        precision="fp32",
        fingerprint="f" * 64,
        bytes=size,
    )


def recipe(task: Task) -> Recipe:
    """A recipe for made tokenizers."""
    return Recipe(task=task, tokenizer="tokenizer.json", max_tokens=16, pad_id=0)


def tokens(*texts: Sequence[int]) -> list[Tokens]:
    """Texts of these ids."""
    return [Tokens(np.array(ids, dtype=np.int32)) for ids in texts]
