"""Writes of one reconcile: only what differs, only over what we control, only while the owner lives.

What to write is decided elsewhere.
"""

from typing import Any

from embedding_operator import api, fields, naming
from embedding_operator.api import Body, EmbeddingModel
from embedding_operator.errors import LeftoverError, NameConflictError, OwnerGoneError
from embedding_operator.observed import controlled_by, controller, retained
from embedding_operator.ports import Cluster


class Writer:
    """Writes the children of one resource, for the length of one reconcile."""

    def __init__(self, cluster: Cluster, em: EmbeddingModel) -> None:
        self._cluster = cluster
        self._em = em
        self._owner_seen = False

    async def ensure(self, desired: dict[str, Any], seen: Body | None, *, version: bool = False) -> Body:
        """Applies desired unless seen, the cached object of that name, holds it. Returns what is there.

        version: apply only if the object is still at the version that was seen. Raises NameConflictError and
        LeftoverError where the name is taken, OwnerGoneError where the resource is no more, ApiError.
        """
        if seen is None:
            seen = await self.check_free(desired["kind"], desired["metadata"]["name"])
        if seen is None:
            return await self._cluster.apply(desired, manager=naming.FIELD_MANAGER)
        if "deletionTimestamp" in seen["metadata"]:
            return seen  # its end is an event, and the next reconcile makes it anew
        if fields.unchanged(desired, seen, naming.FIELD_MANAGER):
            return seen
        address = {"uid": seen["metadata"]["uid"]}
        if version:
            address["resourceVersion"] = seen["metadata"]["resourceVersion"]
        return await self._cluster.apply(
            desired | {"metadata": desired["metadata"] | address}, manager=naming.FIELD_MANAGER
        )

    async def create(self, desired: dict[str, Any]) -> Body:
        """Applies an object whose name is known to be free, or has just been freed. Returns what is there."""
        await self._check_owner()
        return await self._cluster.apply(desired, manager=naming.FIELD_MANAGER)

    async def record(self, seen: Body, annotation: str, text: str) -> None:
        """Writes one annotation on an object whose other fields are not sent again."""
        metadata = seen["metadata"]
        desired = {
            "apiVersion": seen["apiVersion"],
            "kind": seen["kind"],
            "metadata": {
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
                "annotations": {annotation: text},
            },
        }
        if not fields.unchanged(desired, seen, naming.RECORD_MANAGER):
            await self._cluster.apply(desired, manager=naming.RECORD_MANAGER)

    async def delete(self, seen: Body) -> None:
        """Deletes a child, if it is one and not on its way out already.

        A retained claim is one where another has taken its place, since its revision is followed.
        """
        is_child = controlled_by(seen, self._em.uid) or retained(seen, self._em)
        if is_child and "deletionTimestamp" not in seen["metadata"]:
            await self._cluster.delete(seen)

    async def check_free(self, kind: str, name: str) -> Body | None:
        """Returns the object of the wanted name if it is ours and was not in the cache, None if it is free.

        Read from the API server, since the watches see labelled objects only. Raises as ensure does.
        """
        await self._check_owner()
        found = await self._cluster.get(kind, self._em.namespace, name)
        if found is None or controlled_by(found, self._em.uid) or retained(found, self._em):
            return found
        holder = controller(found)
        if holder is None:
            raise NameConflictError(kind, name, "nobody that says so")
        if holder.get("kind") == api.KIND and holder.get("name") == self._em.name:
            raise LeftoverError(kind, name)
        raise NameConflictError(kind, name, f"{holder.get('kind')} {holder.get('name')}")

    async def _check_owner(self) -> None:
        """A child of an owner that is gone would be removed and made again without end."""
        if self._owner_seen:
            return
        owner = await self._cluster.get(api.KIND, self._em.namespace, self._em.name)
        if (
            owner is None
            or owner["metadata"]["uid"] != self._em.uid
            or "deletionTimestamp" in owner["metadata"]
        ):
            raise OwnerGoneError(str(self._em.key))
        self._owner_seen = True
