"""Every kopf decorator. Handlers put the owner's key into the work queue and do nothing else.

Only `on.event` and `index` are used: kopf's create, update, timer and daemon handlers would write annotations
and finalizers of their own. The indexes are the cache that reconciles read.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import kopf

from embedding_operator import api, metrics, naming
from embedding_operator.api import Body, Key
from embedding_operator.observed import CLAIM, DEPLOYMENT, JOB, POD, SERVICE
from embedding_operator.ports import Children

_WATCHED = {
    CLAIM: ("v1", "persistentvolumeclaims"),
    SERVICE: ("v1", "services"),
    POD: ("v1", "pods"),
    DEPLOYMENT: ("apps", "v1", "deployments"),
    JOB: ("batch", "v1", "jobs"),
}
_OWN = (api.GROUP, api.VERSION, api.PLURAL)
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

    def children(self, key: Key) -> Children:
        """See ports.Cache."""
        return {kind: self._of(kind, key) for kind in _WATCHED}

    def bury(self, uids: Collection[str]) -> None:
        """See ports.Cache. A uid never comes back, so it may be kept for good; few are."""
        self._buried |= set(uids)

    def _of(self, kind: str, key: Key) -> list[Body]:
        index = self._indexes.get(kind)
        if index is None or key not in index:
            return []
        return [body for body in index[key] if body["metadata"]["uid"] not in self._buried]


def registry(
    cache: IndexCache, enqueue: Callable[[Key], None], oldest: Callable[[], float]
) -> kopf.OperatorRegistry:
    """Returns kopf's registry with all handlers.

    enqueue takes the key of a resource that something happened to; oldest returns how long the queue's oldest
    key has waited, in seconds.
    """
    found = kopf.OperatorRegistry()

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
    async def resource_changed(body: kopf.Body, **_: Any) -> None:
        metrics.WATCH_EVENTS.labels(api.KIND).inc()
        enqueue(api.key_of(body))

    for kind, selector in _WATCHED.items():
        _watch_children(found, kind, selector, enqueue)
    return found


def _watch_children(
    found: kopf.OperatorRegistry, kind: str, selector: tuple[str, ...], enqueue: Callable[[Key], None]
) -> None:
    @kopf.index(*selector, id=_index_name(kind), registry=found)
    async def children(body: kopf.Body, **_: Any) -> dict[Key, Body] | None:
        key = _owner(body)
        return None if key is None else {key: _kept(kind, body)}

    @kopf.on.event(*selector, id=f"{kind}-changed", registry=found)
    async def child_changed(body: kopf.Body, **_: Any) -> None:
        metrics.WATCH_EVENTS.labels(kind).inc()
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
        spec = {"nodeName": kept["spec"].get("nodeName"), "volumes": kept["spec"].get("volumes")}
        kept |= {"metadata": metadata, "spec": spec}
    return kept
