"""What the engine tells the HTTP processes about itself and its models. Plain data, JSON on the wire."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from embedding_runtime.model.recipe import Recipe
from embedding_runtime.model.source import ModelSource
from embedding_runtime.settings import Task

State = Literal["available", "loading", "ready", "exhausted", "load_failed"]


@dataclass(frozen=True)
class ModelCard:
    """A model that is loaded. `dimensions` is None for a reranker.

    `fallback`: why it does not run on the provider that was asked for. `memory_bytes`: what it holds.
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
    memory_bytes: int = 0

    @classmethod
    def of(cls, source: ModelSource, provider: str, width: int) -> Self:
        """The card of a source that was loaded on `provider` and gives rows of `width`."""
        return cls(
            id=source.id,
            commit=source.commit,
            folder=source.folder,
            recipe=source.recipe,
            precision=source.precision,
            fingerprint=source.fingerprint,
            provider=provider,
            dimensions=width if source.recipe.task == "embed" else None,
        )

    @property
    def tokenizer_path(self) -> Path:
        """Where tokenizer.json lies."""
        return self.folder / self.recipe.tokenizer

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "folder": str(self.folder), "recipe": self.recipe.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        recipe = Recipe.from_json(values["recipe"])
        return cls(**{**values, "folder": Path(values["folder"]), "recipe": recipe})


@dataclass(frozen=True)
class ModelState:
    """One configured model: loading, ready (then with its card) or load_failed, with the reason."""

    id: str
    revision: str
    task: Task
    state: State = "loading"
    reason: str = "Loading"
    message: str = ""
    card: ModelCard | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "card": self.card.to_json() if self.card else None}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        card = values["card"]
        return cls(**{**values, "card": ModelCard.from_json(card) if card else None})


@dataclass(frozen=True)
class EngineState:
    """All configured models, in the order that gives each its slot on the wire."""

    models: tuple[ModelState, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"models": [model.to_json() for model in self.models]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(tuple(ModelState.from_json(entry) for entry in values["models"]))

    @property
    def state(self) -> State:
        """load_failed when any model failed, ready when all are ready, else loading."""
        states = {model.state for model in self.models}
        if "load_failed" in states:
            return "load_failed"
        return "loading" if "loading" in states else "ready"

    @property
    def worst(self) -> ModelState | None:
        """The model that keeps this from being ready, a failed one before a loading one."""
        for wanted in ("load_failed", "loading"):
            for model in self.models:
                if model.state == wanted:
                    return model
        return None
