"""What a request may name now, with what is known of each. Pure."""

from collections.abc import Mapping

from embedding_runtime.model.wanted import Wanted
from embedding_runtime.service.answers import Listed, Source
from embedding_runtime.service.names import Names
from embedding_runtime.service.state import EngineState, ModelState
from embedding_runtime.settings import Task

_BEST = ("ready", "loading", "exhausted", "load_failed")


def listing(
    names: Names, state: EngineState | None, cached: Mapping[str, Task | None], *, offline: bool
) -> list[Listed]:
    """Default models first, then the other configured ones, then by id.

    Offline, what is neither cached, nor loaded, nor a folder is left out: it cannot be had.
    """
    models = state.models if state else ()
    wanted: dict[str, Wanted] = {}
    for each in (*names.configured.defaults.values(), *names.configured.named.values()):
        wanted.setdefault(each.name, each)
    for ident in sorted({*names.allowed(cached), *(model.name for model in models if model.card)}):
        wanted.setdefault(ident, Wanted(ident))
    found = []
    for ident, each in wanted.items():
        known = _known(ident, each, state)
        if offline and not (each.folder or ident in cached or (known and known.card)):
            continue
        if task := _task(each, known, names, cached):
            found.append(_listed(each, task, known, names))
    return found


def _known(ident: str, wanted: Wanted, state: EngineState | None) -> ModelState | None:
    """What the engine says of the model, or of the revision of it that is best off."""
    if state is None:
        return None
    if (known := state.find(wanted)) is not None:
        return known
    same = [model for model in state.models if model.name == ident]
    return min(same, key=lambda model: _BEST.index(model.state), default=None)


def _task(
    wanted: Wanted, known: ModelState | None, names: Names, cached: Mapping[str, Task | None]
) -> Task | None:
    return (
        (known.task if known else None)
        or wanted.task
        or names.catalogue.task(wanted.name)
        or cached.get(wanted.name)
    )


def _listed(wanted: Wanted, task: Task, known: ModelState | None, names: Names) -> Listed:
    default = names.configured.default(task)
    return Listed(
        name=wanted.name,
        served_names=names.configured.served_names(wanted.name),
        task=task,
        state=known.state if known else "available",
        default=default is not None and default.name == wanted.name,
        reason=known.reason if known else "",
        message=known.message if known else "",
        card=known.card if known else None,
        memory_bytes=known.card.memory_bytes if known and known.card else None,
        source=_source(wanted, known, names),
    )


def _source(wanted: Wanted, known: ModelState | None, names: Names) -> Source | None:
    """Whose files answer, where it is known and not the repository of the model's own name."""
    card = known.card if known else None
    if card is not None:
        return Source(card.repository, card.file) if card.repository else None
    entry = names.catalogue.find(wanted.name)
    if entry is None or wanted.folder or not entry.is_variant or entry.repository is None:
        return None
    return Source(entry.repository, wanted.file or entry.file or "")
