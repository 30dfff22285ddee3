"""From a wanted model to a source that can be loaded: out of a folder, the cache or the hub."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self

from embedding_runtime.errors import CorruptModelError, HubError, ModelError, NotCachedError
from embedding_runtime.model.graph import read_facts
from embedding_runtime.model.source import ModelSource, open_source
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.registry.cache import Snapshot, find, find_folder
from embedding_runtime.registry.plan import Plan, Report
from embedding_runtime.settings import HubSettings
from embedding_runtime.telemetry import logger

if TYPE_CHECKING:
    from embedding_runtime.registry.hub import Hub

_log = logger("obtain")

# The small files are read first: damage of theirs hides damage of the large ones.
_REPAIRS = 2


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
    fetched again. Raises ModelError, CacheError; HubError is worth another try.
    """
    if wanted.folder is not None:
        return _opened(find_folder(wanted.folder, wanted.name, wanted.file, wanted.precision), wanted)
    if access.offline:
        return _opened(_find(wanted, access), wanted)
    suspects: tuple[str, ...] = ()
    if wanted.ref.is_pinned:
        try:
            return _opened(_find(wanted, access), wanted)
        except CorruptModelError as error:
            if not error.damaged:
                raise
            suspects = error.damaged
        except ModelError as error:
            # What an unfinished snapshot lacks is fetched; what the files themselves say stands.
            if not isinstance(error, NotCachedError) and _is_complete(wanted, access):
                raise
    return _fetched(wanted, access, report, suspects)


def plan(wanted: Wanted, access: Access) -> Plan:
    """What the hub says would be fetched of a model of its own: commit, files, sizes. Writes nothing.

    Raises ModelError, HubError.
    """
    from embedding_runtime.registry.hub import Hub

    hub = Hub(access.endpoint, access.token, access.cache_dir)
    return hub.plan(wanted.ref, wanted.file, wanted.precision)


def _fetched(wanted: Wanted, access: Access, report: Report, suspects: Collection[str]) -> ModelSource:
    """Through the hub, and once more where what was cached turns out to be damaged."""
    # Imported here: offline, which is how a pod serves, the hub client would only cost memory.
    from embedding_runtime.registry.hub import Hub

    hub = Hub(access.endpoint, access.token, access.cache_dir)
    try:
        plan = hub.plan(wanted.ref, wanted.file, wanted.precision)
        snapshot = _complete(hub, plan, report, suspects)
    except HubError as error:
        if not access.cached_if_down:
            raise
        try:
            source = _opened(_find(wanted, access), wanted)
        except (NotCachedError, CorruptModelError):
            raise error from None
        _log.warning(
            "the hub does not answer, taking the cached model", model=str(wanted.ref), error=error.message
        )
        return source
    for _ in range(_REPAIRS):
        try:
            return _opened(snapshot, wanted)
        except CorruptModelError as error:
            if not error.damaged or set(error.damaged) <= set(suspects):
                raise
            suspects = {*suspects, *error.damaged}
            _log.warning("fetching damaged files again", model=str(wanted.ref), files=list(error.damaged))
            snapshot = _complete(hub, plan, report, error.damaged)
    return _opened(snapshot, wanted)


def _complete(hub: "Hub", plan: Plan, report: Report, suspects: Collection[str]) -> Snapshot:
    """Fetch everything that the plan needs, then show it.

    External data is planned by its usual names; a graph that keeps tensors under other names gets those too.
    """
    graph = hub.fetch(plan, report, suspects)
    try:
        external = read_facts(graph).external
    except CorruptModelError:
        # Damaged in the cache or broken at the hub: opening it tells which.
        external = ()
    beside = PurePosixPath(plan.graph).parent
    further = hub.including(plan, [(beside / name).as_posix() for name in external])
    if further != plan:
        hub.fetch(further, report, suspects)
    return hub.publish(further, suspects)


def _is_complete(wanted: Wanted, access: Access) -> bool:
    try:
        _find(wanted, access)
    except ModelError:
        return False
    return True


def _find(wanted: Wanted, access: Access) -> Snapshot:
    return find(access.cache_dir, wanted.ref, wanted.file, wanted.precision)


def _opened(snapshot: Snapshot, wanted: Wanted) -> ModelSource:
    return open_source(snapshot, wanted.task, wanted.fingerprint, wanted.overrides)
