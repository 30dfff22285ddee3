"""Every kopf decorator. Handlers put the owner's key into the work queue and do nothing else.

Only `on.event` and `index` are used: kopf's create, update, timer and daemon handlers would write annotations
and finalizers of their own. The indexes are the cache that reconciles read.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

import kopf
import structlog

from embedding_operator import api, metrics, naming
from embedding_operator.api import Body, Key
from embedding_operator.observed import BUDGET, CLAIM, CONFIG_MAP, DEPLOYMENT, JOB, POD, REVISION, SERVICE
from embedding_operator.ports import Children

_WATCHED = {
    CLAIM: ("v1", "persistentvolumeclaims"),
    CONFIG_MAP: ("v1", "configmaps"),
    SERVICE: ("v1", "services"),
    POD: ("v1", "pods"),
    DEPLOYMENT: ("apps", "v1", "deployments"),
    REVISION: ("apps", "v1", "controllerrevisions"),
    JOB: ("batch", "v1", "jobs"),
    BUDGET: ("policy", "v1", "poddisruptionbudgets"),
}
_OWN = (api.GROUP, api.VERSION, api.PLURAL)
log = structlog.get_logger("embedding_operator.handlers")

AFTER_LIST_SECONDS = 1.0
"""How long after the first object of a repeated list to look at everything: by then the others have come."""

STALLED_SECONDS = 300.0
"""A queue whose oldest key has waited for so long is not being worked on."""


class IndexCache:
    """Implements ports.Cache over kopf's indexes, which map a resource's key to objects."""

    def __init__(self) -> None:
        self._indexes: dict[str, kopf.Index[Key, Body]] = {}
        self._buried: set[str] = set()

    def bind(self, indexes: dict[str, "kopf.Index[Key, Body]"]) -> None:
        """Takes kopf's live indexes, by kind."""
        self._indexes = indexes

    def resource(self, key: Key) -> Body | None:
        """See ports.Cache."""
        found = self._of(api.KIND, key)
        return max(found, key=lambda body: body["metadata"]["creationTimestamp"], default=None)

    def keys(self) -> list[Key]:
        """Returns the keys of all resources that the watches have shown."""
        return list(self._indexes.get(api.KIND, ()))

    def children(self, key: Key) -> Children:
        """See ports.Cache."""
        return {kind: self._of(kind, key) for kind in _WATCHED}

    def jobs(self) -> Iterable[Body]:
        """See ports.Cache."""
        keys = list(self._indexes.get(JOB, ()))
        return [job for key in keys for job in self._of(JOB, key)]

    def bury(self, uids: Collection[str]) -> None:
        """See ports.Cache. A uid never comes back, so it may be kept for good; few are."""
        self._buried |= set(uids)

    def _of(self, kind: str, key: Key) -> list[Body]:
        index = self._indexes.get(kind)
        if index is None or key not in index:
            return []
        return [body for body in index[key] if body["metadata"]["uid"] not in self._buried]


class Listings:
    """Notices that a kind was listed again, which is when deletions can have been missed.

    A watch that cannot go on where it stopped (its resource version is too old: the API server was
    restarted, or out of reach for minutes) starts over with a list. kopf tells what is in the list, and says
    nothing of what is no longer there. Then every resource has to be looked at in the API server itself.
    """

    def __init__(self, again: Callable[[], None]) -> None:
        self._again = again
        self._seen: set[str] = set()
        self._due: asyncio.TimerHandle | None = None

    def note(self, kind: str | None, uid: str) -> None:
        """Takes an event, whose kind is None where it comes from a list. Calls back once for a list."""
        if kind == "DELETED":
            self._seen.discard(uid)
        elif kind is None and uid in self._seen and self._due is None:
            self._due = asyncio.get_running_loop().call_later(AFTER_LIST_SECONDS, self._call)
        else:
            self._seen.add(uid)

    def _call(self) -> None:
        self._due = None
        self._again()


class Enqueue(Protocol):
    """Asks for a resource to be reconciled."""

    def __call__(self, key: Key, *, fresh: bool = False) -> None:
        """fresh: by what the API server says now, not by what the watches have shown."""


def registry(cache: IndexCache, enqueue: Enqueue, oldest: Callable[[], float]) -> kopf.OperatorRegistry:
    """Returns kopf's registry with all handlers.

    enqueue takes the key of a resource that something happened to; oldest returns how long the queue's oldest
    key has waited, in seconds.
    """
    found = kopf.OperatorRegistry()

    def all_again() -> None:
        keys = cache.keys()
        log.info("listed again", resources=len(keys))
        for key in keys:
            enqueue(key, fresh=True)

    listings = Listings(all_again)

    @kopf.on.startup(registry=found)
    async def bind(**kwargs: Any) -> None:
        cache.bind({kind: kwargs[_index_name(kind)] for kind in (api.KIND, *_WATCHED)})

    @kopf.on.login(registry=found, id="login")
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        # asked again when the API server no longer takes the token: it is read from its file then
        return kopf.login_via_client(**kwargs)

    @kopf.on.probe(registry=found, id="queue")
    async def queue_is_worked_on(**_: Any) -> float:
        waited = oldest()
        if waited > STALLED_SECONDS:
            raise kopf.PermanentError(f"the oldest key has waited for {waited:.0f} s")
        return round(waited, 3)

    @kopf.index(*_OWN, id=_index_name(api.KIND), registry=found)
    async def resources(body: kopf.Body, **_: Any) -> dict[Key, Body]:
        return {api.key_of(body): dict(body)}

    @kopf.on.event(*_OWN, id="resource", registry=found)
    async def resource_changed(type: str | None, body: kopf.Body, **_: Any) -> None:
        metrics.WATCH_EVENTS.labels(api.KIND).inc()
        listings.note(type, body["metadata"]["uid"])
        enqueue(api.key_of(body))

    for kind, selector in _WATCHED.items():
        _watch_children(found, kind, selector, enqueue, listings)
    return found


def _watch_children(
    found: kopf.OperatorRegistry, kind: str, selector: tuple[str, ...], enqueue: Enqueue, listings: Listings
) -> None:
    @kopf.index(*selector, id=_index_name(kind), registry=found)
    async def children(body: kopf.Body, **_: Any) -> dict[Key, Body] | None:
        key = _owner(body)
        return None if key is None else {key: _kept(kind, body)}

    @kopf.on.event(*selector, id=f"{kind}-changed", registry=found)
    async def child_changed(type: str | None, body: kopf.Body, **_: Any) -> None:
        metrics.WATCH_EVENTS.labels(kind).inc()
        listings.note(type, body["metadata"]["uid"])
        key = _owner(body)
        if key is not None:
            enqueue(key)


def configure(settings: kopf.OperatorSettings) -> kopf.OperatorSettings:
    """Sets kopf up: nothing persisted, nothing posted, every request and watch bounded, children filtered."""
    settings.persistence.finalizer = f"{api.GROUP}/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=api.GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=api.GROUP)
    settings.posting.enabled = False
    settings.scanning.disabled = True  # neither CRDs nor namespaces are watched: no role for them is needed
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    # after an outage the next attempt is never far; once they are used up the process ends and starts over
    settings.networking.error_backoffs = (0.5, 1, 2, 3, *[5] * 12)
    settings.watching.connect_timeout = 10
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.inactivity_timeout = 70
    settings.watching.chunk_size = 500
    settings.process.ultimate_exiting_timeout = 25
    for selector in _WATCHED.values():
        settings.watching.label_selectors[_three(selector)] = naming.CHILD_SELECTOR
    return settings


def _three(selector: Iterable[str]) -> tuple[str, str, str]:
    group, version, plural = ("", *selector)[-3:]
    return group, version, plural


def _index_name(kind: str) -> str:
    return f"index_{kind.lower()}"


def _owner(body: kopf.Body) -> Key | None:
    metadata = body["metadata"]
    return naming.owner_key(metadata["namespace"], metadata.get("labels"))


def _kept(kind: str, body: kopf.Body) -> Body:
    """Returns what reconciles read of an object; managedFields only of what is ever applied."""
    kept = dict(body)
    if kind == POD:
        metadata = {k: v for k, v in kept["metadata"].items() if k != "managedFields"}
        spec = {name: kept["spec"].get(name) for name in ("nodeName", "volumes")}
        first = [
            {name: container.get(name) for name in ("name", "restartPolicy")}
            for container in kept["spec"].get("initContainers") or ()
        ]
        kept |= {"metadata": metadata, "spec": spec | ({"initContainers": first} if first else {})}
    return kept
