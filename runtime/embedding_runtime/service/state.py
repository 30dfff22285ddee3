"""What the engine tells the HTTP processes about itself and its models. Plain data, JSON on the wire."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from embedding_runtime.engine.backend import Backend
from embedding_runtime.model.prepared import Prepared
from embedding_runtime.model.recipe import Overrides, Recipe
from embedding_runtime.model.source import ModelSource
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.settings import Task

State = Literal["available", "loading", "ready", "exhausted", "load_failed"]


@dataclass(frozen=True)
class ModelCard:
    """A model that is loaded. `dimensions` is None for a reranker.

    `fallback`: why it does not run on the provider that was asked for. `prepared`: whether a prepared graph
    is run, `unprepared`: why the repository's own is, `unfused`: what should be fused in the prepared one and
    is not. `memory_bytes`: what it holds. `repository`: whose files these are, where that is not the
    repository of the model's own name; `file`: the ONNX file in it.
    """

    id: str
    commit: str
    folder: Path
    recipe: Recipe
    precision: str
    fingerprint: str
    provider: str
    dimensions: int | None
    fallback: str | None = None
    prepared: bool = False
    unprepared: str | None = None
    unfused: str | None = None
    memory_bytes: int = 0
    repository: str | None = None
    file: str = ""

    @classmethod
    def of(
        cls, source: ModelSource, graph: Prepared, backend: Backend, width: int, *, memory_bytes: int
    ) -> Self:
        """The card of a source whose `graph` the backend has loaded and gives rows of `width` from."""
        return cls(
            id=source.id,
            commit=source.commit,
            folder=source.folder,
            recipe=source.recipe,
            precision=backend.precision,
            fingerprint=source.fingerprint,
            provider=backend.provider,
            dimensions=width if source.recipe.task == "embed" else None,
            fallback=backend.fallback,
            prepared=not graph.plain,
            unprepared=graph.note,
            unfused=graph.unfused,
            memory_bytes=memory_bytes,
            repository=source.repository,
            file=source.graph,
        )

    @property
    def tokenizer_path(self) -> Path:
        """Where tokenizer.json lies."""
        return self.folder / self.recipe.tokenizer

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "folder": str(self.folder), "recipe": self.recipe.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        recipe = Recipe.from_json(values["recipe"])
        return cls(**{**values, "folder": Path(values["folder"]), "recipe": recipe})


@dataclass(frozen=True)
class ModelState:
    """One model that the engine knows: loading, ready (then with its card), exhausted or load_failed.

    `slot` names it on the wire while it is loaded, and is never given to another. `reason` is an error's
    code. `permanent`: trying again without a change is pointless. `default`: loaded at start and kept.
    """

    slot: int
    wanted: Wanted
    state: State = "loading"
    reason: str = "Loading"
    message: str = ""
    permanent: bool = False
    default: bool = False
    card: ModelCard | None = None

    @property
    def name(self) -> str:
        """The id without revision."""
        return self.wanted.name

    @property
    def task(self) -> Task | None:
        """The task, where it is known already."""
        return self.card.recipe.task if self.card else self.wanted.task

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        card = self.card.to_json() if self.card else None
        return {**vars(self), "wanted": wanted_to_json(self.wanted), "card": card}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        card = ModelCard.from_json(values["card"]) if values["card"] else None
        return cls(**{**values, "wanted": wanted_from_json(values["wanted"]), "card": card})


@dataclass(frozen=True)
class EngineState:
    """Every model that the engine has, is loading, or remembers the failure of; default models first."""

    models: tuple[ModelState, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"models": [model.to_json() for model in self.models]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(tuple(ModelState.from_json(entry) for entry in values["models"]))

    def find(self, wanted: Wanted) -> ModelState | None:
        """What is known of a model; one that is wanted by its commit may be loaded by its branch."""
        return self._wanted.get(wanted) or self._commits.get(_anonymous(wanted))

    @cached_property
    def _wanted(self) -> dict[Wanted, ModelState]:
        return {model.wanted: model for model in self.models}

    @cached_property
    def _commits(self) -> dict[Wanted, ModelState]:
        return {
            _anonymous(replace(model.wanted, revision=model.card.commit)): model
            for model in reversed(self.models)
            if model.card
        }


def _anonymous(wanted: Wanted) -> Wanted:
    """Without what is only expected of a model: that makes it no other one."""
    return replace(wanted, task=None, fingerprint=None)


def wanted_to_json(wanted: Wanted) -> dict[str, Any]:
    """Plain values."""
    return {**asdict(wanted), "folder": str(wanted.folder) if wanted.folder else None}


def wanted_from_json(values: Mapping[str, Any]) -> Wanted:
    """The inverse of `wanted_to_json`.

    Raises KeyError, TypeError, ValueError for anything else.
    """
    said = values["overrides"]
    pairs = None if said["prompts"] is None else tuple((name, text) for name, text in said["prompts"])
    pooling = None if said["pooling"] is None else tuple(said["pooling"])
    overrides = Overrides(**{**said, "pooling": pooling, "prompts": pairs})
    folder = Path(values["folder"]) if values["folder"] else None
    return Wanted(**{**values, "folder": folder, "overrides": overrides})
