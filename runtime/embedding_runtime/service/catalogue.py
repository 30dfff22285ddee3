"""Which slot answers for the name in a request, and what to say when none does. Pure."""

from collections.abc import Sequence

from embedding_runtime.errors import (
    EngineUnavailableError,
    LoadFailedError,
    NotReadyError,
    UnknownModelError,
    WrongTaskError,
)
from embedding_runtime.registry.reference import ModelRef
from embedding_runtime.service.configured import Configured
from embedding_runtime.service.state import EngineState, ModelCard
from embedding_runtime.settings import Task

_KIND = {"embed": "embedding model", "rerank": "reranking model"}
_ENDPOINT = {"embed": "/embed", "rerank": "/rerank"}


class Catalogue:
    """The configured models by the names that requests may use."""

    def __init__(self, models: Sequence[Configured]) -> None:
        self._models = models

    def slot(self, name: str | None, task: Task, state: EngineState | None) -> int:
        """The slot for `name` (id, or id@revision as configured or as resolved); None is the task's default.

        Raises UnknownModelError that names what is served, WrongTaskError.
        """
        if name is None:
            for slot, model in enumerate(self._models):
                if model.task == task:
                    return slot
            raise UnknownModelError(
                f"no {_KIND[task]} is configured; {self._served()}; name one in the request", param="model"
            )
        for slot, model in enumerate(self._models):
            if self._means(name, slot, state):
                if model.task != task:
                    raise WrongTaskError(
                        f"{model.ref.id} is a {_KIND[model.task]}; ask it at {_ENDPOINT[model.task]}",
                        param="model",
                    )
                return slot
        raise UnknownModelError(f"the model {name!r} is not served here; {self._served()}", param="model")

    def _means(self, name: str, slot: int, state: EngineState | None) -> bool:
        asked, configured = ModelRef.parse(name), self._models[slot].ref
        if asked.id != configured.id:
            return False
        card = state.models[slot].card if state else None
        return "@" not in name or asked.revision in (configured.revision, card.commit if card else None)

    def _served(self) -> str:
        return "served: " + (", ".join(model.ref.id for model in self._models) or "nothing")

    def label(self, name: str | None, task: Task) -> str:
        """The model's id for a metric, `unknown` for a name that is not served: clients choose no labels."""
        for model in self._models:
            if model.task == task and (name is None or ModelRef.parse(name).id == model.ref.id):
                return model.ref.id
        return "unknown"


def ready_card(slot: int, state: EngineState | None) -> ModelCard:
    """The card of a slot that can answer now.

    Raises EngineUnavailableError, NotReadyError, LoadFailedError.
    """
    if state is None:
        raise EngineUnavailableError("the engine process is starting or being restarted", retry_after=1)
    model = state.models[slot]
    if model.state == "load_failed":
        raise LoadFailedError(f"{model.id} could not be loaded: {model.message}")
    if model.card is None:
        raise NotReadyError(f"{model.id} is still loading", retry_after=1)
    return model.card
