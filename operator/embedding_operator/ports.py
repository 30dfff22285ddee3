"""What a reconcile needs from the outside, as protocols: the API server, and the cache that watches keep.

cluster.py and handlers.py implement them; so do the tests' in-memory cluster and cache.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from embedding_operator.api import Body, EmbeddingModel, Key
from embedding_operator.health.census import Census
from embedding_operator.health.incidents import Incident
from embedding_operator.readiness import Told

Children = Mapping[str, Sequence[Body]]
"""Children by kind."""


class Cluster(Protocol):
    """The API server. Methods raise errors.ApiError or one of its kinds; none waits without a bound."""

    async def get(self, kind: str, namespace: str, name: str) -> Body | None:
        """Returns an object as the server has it now, None where there is none."""

    async def children(self, key: Key) -> Children:
        """Returns a resource's children as the server has them now."""

    async def apply(self, body: Body, *, manager: str) -> Body:
        """Applies an object server-side as this field manager, taking fields over, and returns the result."""

    async def apply_status(self, em: EmbeddingModel, status: Mapping[str, Any]) -> None:
        """Applies the status of a resource, if it is still the one with this uid."""

    async def delete(self, body: Body) -> None:
        """Deletes this very object (by uid) and what it owns; nothing where it is gone already."""

    async def log_tail(self, namespace: str, pod: str, container: str) -> str:
        """Returns the last lines of a container's log, at most 4 KiB; empty where there is none yet."""

    async def incidents(self, namespace: str, kind: str, name: str) -> Sequence[Incident]:
        """Returns the Events about an object, at most 500, in no order."""

    async def hosts_offering(self, resource: str, count: int) -> list[str]:
        """Returns kubernetes.io/hostname of schedulable nodes with at least count of an extended resource."""

    async def hosts_with_devices(self) -> list[str] | None:
        """Returns kubernetes.io/hostname of schedulable nodes with devices that pods can claim.

        None where any node may do: a device is not bound to one, or the cluster knows no such devices.
        """

    async def census(self) -> Census:
        """Returns what all nodes have and which pods hold it, read now and page by page."""

    async def post_event(self, em: EmbeddingModel, *, reason: str, message: str, warning: bool) -> None:
        """Writes one Event about a resource."""


class Servers(Protocol):
    """The servers in the pods. None waits for longer than seconds."""

    async def readiness(self, host: str, port: int) -> Told:
        """Returns what the server of a pod says at /health/ready; Silence where it cannot be asked."""


class Cache(Protocol):
    """What the watches have seen. Reading it costs no request, and it may lag behind."""

    def resource(self, key: Key) -> Body | None:
        """Returns the EmbeddingModel, None where it is not known."""

    def children(self, key: Key) -> Children:
        """Returns the resource's children, those included that a lost watch has left behind."""

    def jobs(self) -> Iterable[Body]:
        """Returns the prefetch Jobs of all resources."""

    def bury(self, uids: Collection[str]) -> None:
        """Forgets objects that the API server no longer has: a watch cut off for long misses deletions."""
