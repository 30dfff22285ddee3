"""The models that the settings name; their order gives each its slot, in the engine and in the HTTP
processes.
"""

from dataclasses import dataclass

from embedding_runtime.registry.reference import ModelRef
from embedding_runtime.settings import ServeSettings, Task


@dataclass(frozen=True)
class Configured:
    """A model that the settings name, and the task that it is named for."""

    ref: ModelRef
    task: Task


def configured_models(settings: ServeSettings) -> list[Configured]:
    """The default models; an empty name means none."""
    named: list[tuple[str, Task]] = [
        (settings.default_embedding_model, "embed"),
        (settings.default_reranking_model or "", "rerank"),
    ]
    return [Configured(ModelRef.parse(name), task) for name, task in named if name]
