"""A model as it lies on disk, read and checked, ready to be loaded: snapshot, recipe, graph facts,
fingerprint.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from embedding_runtime.errors import CorruptModelError, FingerprintMismatchError, TaskMismatchError
from embedding_runtime.model.fingerprint import fingerprint
from embedding_runtime.model.graph import read_facts
from embedding_runtime.model.recipe import Recipe, read_recipe
from embedding_runtime.registry.cache import Snapshot
from embedding_runtime.settings import Task

_DOES = {"embed": "gives embeddings", "rerank": "is a reranker"}


@dataclass(frozen=True)
class ModelSource:
    """Everything that is known about a model before it is loaded."""

    id: str
    commit: str
    folder: Path
    graph: str
    recipe: Recipe
    precision: str
    fingerprint: str
    bytes: int

    @property
    def graph_path(self) -> Path:
        """Where the ONNX file lies."""
        return self.folder / self.graph

    @property
    def tokenizer_path(self) -> Path:
        """Where tokenizer.json lies."""
        return self.folder / self.recipe.tokenizer


def open_source(
    snapshot: Snapshot, task: Task | None, expected_fingerprint: str | None = None
) -> ModelSource:
    """Read a snapshot. `task` is the one that is wanted, None for whichever the model does.

    Raises UnsupportedModelError, CorruptModelError, TaskMismatchError, FingerprintMismatchError.
    """
    model = snapshot.ref.id
    recipe = read_recipe(snapshot.folder, model)
    if task is not None and recipe.task != task:
        raise TaskMismatchError(f"{model} {_DOES[recipe.task]}, but it is configured for the task {task!r}")
    facts = read_facts(snapshot.folder / snapshot.graph)
    beside = PurePosixPath(snapshot.graph).parent
    weights = [snapshot.graph, *((beside / name).as_posix() for name in facts.external)]
    for name in weights:
        if not (snapshot.folder / name).is_file():
            raise CorruptModelError(
                f"{model}: {snapshot.graph} keeps its tensors in {name}, which is not there"
            )
    try:
        found = fingerprint(snapshot.folder, weights, recipe)
        size = sum((snapshot.folder / name).stat().st_size for name in {*snapshot.files, *weights})
    except OSError as error:
        raise CorruptModelError(f"{model}: cannot read its files: {error}") from error
    if expected_fingerprint and found != expected_fingerprint:
        raise FingerprintMismatchError(
            f"{model}@{snapshot.commit}: expected fingerprint {expected_fingerprint}, found {found}: "
            "this is another embedding space, its vectors must not be mixed with the expected one's"
        )
    return ModelSource(
        id=model,
        commit=snapshot.commit,
        folder=snapshot.folder,
        graph=snapshot.graph,
        recipe=recipe,
        precision=facts.precision,
        fingerprint=found,
        bytes=size,
    )
