"""A model as it lies on disk, read and checked, ready to be loaded: snapshot, recipe, graph facts,
fingerprint.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

from embedding_runtime.errors import CorruptModelError, FingerprintMismatchError, TaskMismatchError
from embedding_runtime.model.architectures import Architecture, architecture
from embedding_runtime.model.fingerprint import fingerprint
from embedding_runtime.model.graph import facts_of
from embedding_runtime.model.modules import read_json
from embedding_runtime.model.recipe import AS_IT_IS, Overrides, Recipe, read_recipe
from embedding_runtime.registry.cache import Snapshot
from embedding_runtime.registry.catalogue import NOTHING, FillIns
from embedding_runtime.registry.digests import claimed, digests
from embedding_runtime.settings import Task

_DOES = {"embed": "gives embeddings", "rerank": "is a reranker"}


@dataclass(frozen=True)
class ModelSource:
    """Everything that is known about a model before it is loaded. `graph`: the ONNX file inside the folder,
    or the safetensors, or the index of several, that one is to be made of. `repository`: whose files these
    are, where that is not the repository of the model's own name.
    """

    id: str
    commit: str
    folder: Path
    graph: str
    recipe: Recipe
    precision: str
    fingerprint: str
    bytes: int
    repository: str | None = None

    @property
    def graph_path(self) -> Path:
        """Where the ONNX file, or what is to be made one, lies."""
        return self.folder / self.graph

    @property
    def is_converted(self) -> bool:
        """Whether the repository has no graph, so that one is made of its weights."""
        return not self.graph.endswith(".onnx")

    @property
    def tokenizer_path(self) -> Path:
        """Where tokenizer.json lies."""
        return self.folder / self.recipe.tokenizer

    def to_json(self) -> dict[str, Any]:
        """Plain values, for another process."""
        return {**vars(self), "folder": str(self.folder), "recipe": self.recipe.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        recipe = Recipe.from_json(values["recipe"])
        return cls(**{**values, "folder": Path(values["folder"]), "recipe": recipe})


def open_source(
    snapshot: Snapshot,
    task: Task | None,
    expected_fingerprint: str | None = None,
    overrides: Overrides = AS_IT_IS,
    fill_ins: FillIns = NOTHING,
) -> ModelSource:
    """Read a snapshot. `task` is the one that is wanted, None for whichever the model does; `fill_ins` hold
    where its files do not say.

    Reads every byte of it once, and compares those that the hub's cache layout names by their content.
    Raises UnsupportedModelError, CorruptModelError, TaskMismatchError, FingerprintMismatchError.
    """
    model = snapshot.asked.id
    # The small files first: what they say may spare reading the large ones.
    small = [name for name in snapshot.files if name.endswith(".json")]
    known = _checked(snapshot, small)
    recipe = read_recipe(snapshot.folder, model, overrides, fill_ins)
    if task is not None and recipe.task != task:
        raise TaskMismatchError(f"{model} {_DOES[recipe.task]}, but it is configured for the task {task!r}")
    made = None if snapshot.graph.endswith(".onnx") else read_architecture(snapshot)
    known |= _checked(snapshot, [name for name in snapshot.files if name not in known])
    facts = facts_of(snapshot.folder / snapshot.graph, snapshot.graph)
    beside = PurePosixPath(snapshot.graph).parent
    weights = [snapshot.graph, *((beside / name).as_posix() for name in facts.external)]
    for name in weights:
        if not (snapshot.folder / name).is_file():
            raise CorruptModelError(
                f"{model}: {snapshot.graph} keeps its tensors in {name}, which is not there", damaged=[name]
            )
    weights += [layer.file for layer in recipe.layers if layer.file]
    known |= _checked(snapshot, [name for name in weights if name not in known])
    found = fingerprint(
        [known[name] for name in weights], known[recipe.tokenizer], recipe, made.to_json() if made else None
    )
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
        bytes=sum((snapshot.folder / name).stat().st_size for name in {*snapshot.files, *weights}),
        repository=snapshot.ref.id if snapshot.name else None,
    )


def read_architecture(snapshot: Snapshot) -> Architecture:
    """What the safetensors of a snapshot are of.

    Raises UnsupportedModelError for what cannot be converted, CorruptModelError.
    """
    path = (snapshot.folder / snapshot.graph).with_name("config.json")
    return architecture(read_json(path, snapshot.ref.id), snapshot.ref.id)


def _checked(snapshot: Snapshot, names: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of each file; raises CorruptModelError naming all that are not what the hub says."""
    found, damaged = {}, []
    for name in names:
        path = snapshot.folder / name
        try:
            claim = claimed(path)
            had = digests(path, claim)
        except OSError as error:
            raise CorruptModelError(f"{snapshot.ref}: cannot read {name}: {error.strerror}") from error
        if claim is not None and not had.match(claim):
            damaged.append(name)
        found[name] = had.sha256
    if damaged:
        raise CorruptModelError(
            f"{snapshot.ref}: damaged in the cache (truncated or changed since it was fetched): "
            f"{', '.join(damaged)} in {snapshot.folder}; fetch it again where there is a network, with "
            f"`python -m embedding_runtime prefetch {snapshot.asked}`",
            damaged=damaged,
        )
    return found
