"""From a wanted model to a source that can be loaded: out of a folder, the cache or the hub."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self, TypeVar

from embedding_runtime.errors import (
    CorruptModelError,
    HubError,
    InternalError,
    ModelError,
    ModelNotFoundError,
    NotCachedError,
    NoWeightsError,
    RevisionNotFoundError,
    RuntimeFault,
)
from embedding_runtime.model.architectures import architecture
from embedding_runtime.model.graph import facts_of
from embedding_runtime.model.modules import read_json
from embedding_runtime.model.origins import Origin, of_folder, origins
from embedding_runtime.model.source import ModelSource, open_source
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.registry.cache import Snapshot, find, find_commit, find_folder
from embedding_runtime.registry.plan import Plan, Report
from embedding_runtime.settings import HubSettings
from embedding_runtime.telemetry import logger

if TYPE_CHECKING:
    from embedding_runtime.registry.hub import Hub

_log = logger("obtain")

# The small files are read first: damage of theirs hides damage of the large ones.
_REPAIRS = 2

# What is wrong with one repository and not with another that stands in for it.
_NOT_HERE = (NoWeightsError, ModelNotFoundError, RevisionNotFoundError, NotCachedError)

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Access:
    """Where models may come from. `token` is for the hub client only. `cached_if_down`: what is cached will
    do where the hub does not answer.
    """

    cache_dir: Path
    endpoint: str
    token: str | None = field(repr=False)
    offline: bool
    cached_if_down: bool = True

    @classmethod
    def of(cls, settings: HubSettings) -> Self:
        """What the settings allow."""
        return cls(settings.cache_dir, settings.hf_endpoint, settings.token, settings.hf_hub_offline)


def acquire(wanted: Wanted, access: Access, report: Report) -> ModelSource:
    """The wanted model, read and checked; `report` hears (bytes had, bytes in all) while it is fetched.

    Offline nothing touches the network. Online a pinned revision that is cached is not asked for either, a
    branch is; where the hub does not answer, what is cached is taken. Files that turn out to be damaged are
    fetched again. Where the model's own repository has no weights that can be used, the catalogue's
    substitute for it is taken. Raises ModelError, CacheError; HubError is worth another try.
    """
    if wanted.folder is not None:
        origin = of_folder(wanted)
        snapshot = find_folder(wanted.folder, wanted.name, origin.file, wanted.precision)
        return _opened(snapshot, origin, wanted)
    return _first(wanted, access, lambda origin, reach: _acquired(origin, wanted, reach, report))


def plan(wanted: Wanted, access: Access) -> Plan:
    """What the hub says would be fetched of a model of its own: commit, files, sizes. Writes nothing.

    Raises ModelError, HubError.
    """
    from embedding_runtime.registry.hub import Hub

    hub = Hub(access.endpoint, access.token, access.cache_dir)
    reach = replace(access, cached_if_down=False)
    return _first(wanted, reach, lambda origin, _: hub.plan(origin.ref, origin.file, wanted.precision))


def _first(wanted: Wanted, access: Access, get: Callable[[Origin, Access], _Found]) -> _Found:
    """What `get` returns of the first origin that has it; what the model's own lacks is told where none has.

    Where the hub does not answer for the model's own repository, of the others only what is cached will do:
    nobody knows then whether they are needed.
    """
    failed: RuntimeFault | None = None
    for origin in _in_order(wanted, access):
        try:
            found = get(origin, access)
        except _NOT_HERE as error:
            failed = failed or error
        except HubError as error:
            if failed is not None or not access.cached_if_down:
                raise
            failed, access = error, replace(access, offline=True)
        else:
            if failed is not None:
                why = failed.message
                _log.info("a substitute answers", model=wanted.name, repository=str(origin.ref), why=why)
            return found
    raise failed or InternalError(f"{wanted.name} has no origin")


def _in_order(wanted: Wanted, access: Access) -> list[Origin]:
    """The origins, of a commit first the one that the cache has: the hub need not be asked then."""
    found = list(origins(wanted))
    if wanted.ref.is_pinned:
        found.sort(key=lambda origin: find_commit(access.cache_dir, origin.ref) is None)
    return found


def _acquired(origin: Origin, wanted: Wanted, access: Access, report: Report) -> ModelSource:
    if access.offline:
        return _opened(_find(origin, wanted, access), origin, wanted)
    suspects: tuple[str, ...] = ()
    if origin.ref.is_pinned:
        try:
            return _opened(_find(origin, wanted, access), origin, wanted)
        except CorruptModelError as error:
            if not error.damaged:
                raise
            suspects = error.damaged
        except ModelError as error:
            # What an unfinished snapshot lacks is fetched; what the files themselves say stands.
            if not isinstance(error, NotCachedError) and _is_complete(origin, wanted, access):
                raise
    return _fetched(origin, wanted, access, report, suspects)


def _fetched(
    origin: Origin, wanted: Wanted, access: Access, report: Report, suspects: Collection[str]
) -> ModelSource:
    """Through the hub, and once more where what was cached turns out to be damaged."""
    # Imported here: offline, which is how a pod serves, the hub client would only cost memory.
    from embedding_runtime.registry.hub import Hub

    hub = Hub(access.endpoint, access.token, access.cache_dir)
    try:
        plan = hub.plan(origin.ref, origin.file, wanted.precision)
        snapshot = _complete(hub, plan, report, suspects)
    except HubError as error:
        if not access.cached_if_down:
            raise
        try:
            source = _opened(_find(origin, wanted, access), origin, wanted)
        except (NotCachedError, CorruptModelError):
            raise error from None
        _log.warning(
            "the hub does not answer, taking the cached model", model=str(origin.ref), error=error.message
        )
        return source
    for _ in range(_REPAIRS):
        try:
            return _opened(snapshot, origin, wanted)
        except CorruptModelError as error:
            if not error.damaged or set(error.damaged) <= set(suspects):
                raise
            suspects = {*suspects, *error.damaged}
            _log.warning("fetching damaged files again", model=str(origin.ref), files=list(error.damaged))
            snapshot = _complete(hub, plan, report, error.damaged)
    return _opened(snapshot, origin, wanted)


def _complete(hub: "Hub", plan: Plan, report: Report, suspects: Collection[str]) -> Snapshot:
    """Fetch everything that the plan needs, then show it.

    External data is planned by its usual names; a graph that keeps tensors under other names gets those too.
    """
    _check_architecture(hub, plan)
    graph = hub.fetch(plan, report, suspects)
    try:
        external = facts_of(graph, plan.graph).external
    except CorruptModelError:
        # Damaged in the cache or broken at the hub: opening it tells which.
        external = ()
    beside = PurePosixPath(plan.graph).parent
    further = hub.including(plan, [(beside / name).as_posix() for name in external])
    if further != plan:
        hub.fetch(further, report, suspects)
    return hub.publish(further, suspects)


def _check_architecture(hub: "Hub", plan: Plan) -> None:
    """See that a graph can be made of safetensors before they are fetched. Raises NoWeightsError."""
    if plan.graph.endswith(".onnx"):
        return
    name = PurePosixPath(plan.graph).with_name("config.json").as_posix()
    config = tuple(file for file in plan.files if file.name == name)
    if not config:
        raise NoWeightsError(f"{plan.ref} has no {name}, without which {plan.graph} cannot be converted")
    path = hub.fetch(replace(plan, graph=name, files=config), lambda _had, _total: None)
    architecture(read_json(path, str(plan.ref)), str(plan.ref))


def _is_complete(origin: Origin, wanted: Wanted, access: Access) -> bool:
    try:
        _find(origin, wanted, access)
    except ModelError:
        return False
    return True


def _find(origin: Origin, wanted: Wanted, access: Access) -> Snapshot:
    return find(access.cache_dir, origin.ref, origin.file, wanted.precision, wanted.name)


def _opened(snapshot: Snapshot, origin: Origin, wanted: Wanted) -> ModelSource:
    named = replace(snapshot, name=wanted.name if origin.ref.id != wanted.name else None)
    return open_source(named, wanted.task, wanted.fingerprint, origin.overrides, origin.fill_ins)
