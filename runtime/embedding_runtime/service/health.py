"""Whether the server is ready, and if not, why. Pure."""

from collections.abc import Callable

from embedding_runtime.errors import ProviderUnavailableError
from embedding_runtime.service.answers import Health
from embedding_runtime.service.state import EngineState, ModelState

_WORST = ("load_failed", "exhausted", "loading")


def health(
    state: EngineState | None, trouble: Callable[[ModelState], Health | None], *, allow_fallback: bool
) -> Health:
    """Ready means: every default model is loaded, where it was asked to be.

    `trouble` says what keeps this process from using a model that is loaded, None for nothing.
    """
    if state is None:
        message = "the engine process is starting or being restarted"
        return Health("loading", "EngineUnavailable", message, ())
    defaults = [model for model in state.models if model.default]
    cards = tuple(model.card for model in defaults if model.card)
    for status in _WORST:
        for model in defaults:
            if model.state == status:
                message = model.message or f"{model.name} is loading"
                return Health(status, model.reason, message, cards)
    for model in defaults:
        if (found := trouble(model)) is not None:
            return Health(found.status, found.reason, found.message, cards)
        fallback = model.card.fallback if model.card else None
        if fallback and not allow_fallback:
            reason = ProviderUnavailableError.code
            message = f"{model.name} runs on the CPU: {fallback}; or set ALLOW_CPU_FALLBACK=true"
            return Health("load_failed", reason, message, cards)
    return Health("ready", "", "", cards)
