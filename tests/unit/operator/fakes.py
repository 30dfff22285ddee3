"""An API server in memory: ordinary implementations of ports.Cluster and ports.Cache, with server-side apply.

Lists are atomic here, which the real server's schemas know better; tests/integration and e2e use a real one.
"""

import copy
import itertools
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from embedding_operator import api, naming
from embedding_operator.api import Body, EmbeddingModel, Key
from embedding_operator.errors import ApiError, ConflictError, NotFoundError
from embedding_operator.health.census import Census
from embedding_operator.health.incidents import Incident
from embedding_operator.observed import CHILD_KINDS
from embedding_operator.ports import Children
from embedding_operator.readiness import Silence, Told

Id = tuple[str, str, str]


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def stamp(self) -> str:
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")


class FakeCluster:
    """Implements ports.Cluster. requests holds (verb, kind, name) of everything asked for."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.objects: dict[Id, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.events: list[tuple[str, str, bool]] = []
        self.logs: dict[str, str] = {}
        self.told: dict[str, list[Incident]] = {}
        self.untold: ApiError | None = None
        self.hosts: list[str] | ApiError = []
        self.device_hosts: list[str] | ApiError | None = []
        self.counted: Census | ApiError = Census((), ())
        self.refuse: dict[str, ApiError] = {}
        self.hidden: set[str] = set()  # uids that the watches have not shown yet
        self.ghosts: list[Body] = []  # objects that the watches still show
        self.buried: set[str] = set()
        self._serial = itertools.count(1)

    # --- what tests do to the cluster

    def put(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Creates or replaces an object, as somebody else would."""
        made = copy.deepcopy(dict(body))
        metadata = made["metadata"]
        metadata.setdefault("namespace", "default")
        metadata.setdefault("uid", f"uid-{next(self._serial)}")
        metadata.setdefault("creationTimestamp", self.clock.stamp())
        metadata["resourceVersion"] = str(next(self._serial))
        self.objects[made["kind"], metadata["namespace"], metadata["name"]] = made
        return made

    def remove(self, kind: str, name: str) -> None:
        """Deletes an object, as somebody else would."""
        del self.objects[kind, "default", name]

    def find(self, kind: str, name: str | None = None) -> dict[str, Any]:
        """Returns an object by name, or the only one of its kind."""
        if name is not None:
            return self.objects[kind, "default", name]
        (found,) = self.all(kind)
        return found

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Returns all objects of a kind."""
        return [body for (found, _, _), body in self.objects.items() if found == kind]

    def writes(self) -> list[tuple[str, str, str]]:
        """Returns and forgets the writing requests so far."""
        found = [request for request in self.requests if request[0] in ("apply", "status", "delete")]
        self.requests.clear()
        return found

    def tell(self, name: str, reason: str, message: str) -> None:
        """Writes an Event about an object."""
        self.told.setdefault(name, []).append(Incident(reason, message, self.clock()))

    # --- what the watches show, for FakeCache

    def resource(self, key: Key) -> Body | None:
        body = self.objects.get((api.KIND, *key))
        return None if body is None or body["metadata"]["uid"] in self.buried else copy.deepcopy(body)

    def _shown(self, key: Key) -> Children:
        found: dict[str, list[Body]] = {kind: [] for kind in CHILD_KINDS}
        for body in [*self.objects.values(), *self.ghosts]:
            metadata = body["metadata"]
            labels = metadata.get("labels") or {}
            if (
                body["kind"] in found
                and labels.get(naming.MANAGED_BY_LABEL) == naming.FIELD_MANAGER
                and naming.owner_key(metadata["namespace"], labels) == key
            ):
                found[body["kind"]].append(copy.deepcopy(body))
        return found

    def bury(self, uids: Collection[str]) -> None:
        self.buried |= set(uids)

    # --- ports.Cluster

    async def get(self, kind: str, namespace: str, name: str) -> Body | None:
        self.requests.append(("get", kind, name))
        return copy.deepcopy(self.objects.get((kind, namespace, name)))

    async def children(self, key: Key) -> Children:
        self.requests.append(("list", "", key.name))
        shown = self._shown(key)
        gone = {body["metadata"]["uid"] for body in self.ghosts}
        return {
            kind: [b for b in bodies if b["metadata"]["uid"] not in gone] for kind, bodies in shown.items()
        }

    async def apply(self, body: Body, *, manager: str) -> Body:
        metadata = body["metadata"]
        self.requests.append(("apply", body["kind"], metadata["name"]))
        if (error := self.refuse.get(body["kind"])) is not None:
            raise error
        found = self.objects.get((body["kind"], metadata["namespace"], metadata["name"]))
        if found is None:
            if "uid" in metadata:
                raise ConflictError("uid mismatch", status=409)
            address = {"name": metadata["name"], "namespace": metadata["namespace"]}
            found = self.put({"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": address})
        elif any(
            metadata.get(k, found["metadata"][k]) != found["metadata"][k] for k in ("uid", "resourceVersion")
        ):
            raise ConflictError("uid or version mismatch", status=409)
        self._merge(found, body, manager, "")
        return copy.deepcopy(found)

    async def apply_status(self, em: EmbeddingModel, status: Mapping[str, Any]) -> None:
        self.requests.append(("status", api.KIND, em.name))
        found = self.objects.get((api.KIND, *em.key))
        if found is None:
            raise NotFoundError("not found", status=404)
        self._merge(found, {"metadata": {}, "status": dict(status)}, naming.FIELD_MANAGER, "status")

    async def delete(self, body: Body) -> None:
        metadata = body["metadata"]
        self.requests.append(("delete", body["kind"], metadata["name"]))
        found = self.objects.get((body["kind"], metadata["namespace"], metadata["name"]))
        if found is not None and found["metadata"]["uid"] == metadata["uid"]:
            self.remove(body["kind"], metadata["name"])
            for id_, child in list(self.objects.items()):
                owners = child["metadata"].get("ownerReferences") or ()
                if any(owner["uid"] == metadata["uid"] for owner in owners):
                    del self.objects[id_]

    async def log_tail(self, namespace: str, pod: str, container: str) -> str:
        self.requests.append(("log", "Pod", pod))
        return self.logs.get(pod, "")

    async def incidents(self, namespace: str, kind: str, name: str) -> list[Incident]:
        self.requests.append(("list", "Event", name))
        if self.untold is not None:
            raise self.untold
        return self.told.get(name, [])

    async def hosts_offering(self, resource: str, count: int) -> list[str]:
        self.requests.append(("list", "Node", ""))
        if isinstance(self.hosts, ApiError):
            raise self.hosts
        return self.hosts

    async def hosts_with_devices(self) -> list[str] | None:
        self.requests.append(("list", "ResourceSlice", ""))
        if isinstance(self.device_hosts, ApiError):
            raise self.device_hosts
        return self.device_hosts

    async def census(self) -> Census:
        self.requests.append(("list", "Node", "census"))
        if isinstance(self.counted, ApiError):
            raise self.counted
        return self.counted

    async def post_event(self, em: EmbeddingModel, *, reason: str, message: str, warning: bool) -> None:
        self.events.append((reason, message, warning))

    # --- server-side apply

    def _merge(self, found: dict[str, Any], body: Body, manager: str, subresource: str) -> None:
        content = {k: v for k, v in body.items() if k not in ("apiVersion", "kind")}
        address = ("name", "namespace", "uid", "resourceVersion")
        content["metadata"] = {k: v for k, v in content["metadata"].items() if k not in address}
        before = copy.deepcopy(found)
        entries = found["metadata"].setdefault("managedFields", [])
        mine = next(
            (e for e in entries if e["manager"] == manager and e.get("subresource", "") == subresource), None
        )
        paths = set(leaves(content))
        for path in leaves_of(mine["fieldsV1"]) - paths if mine else ():
            drop(found, path)
        for path in paths:
            put_at(found, path, copy.deepcopy(value_at(content, path)))
        entry = {
            "manager": manager,
            "operation": "Apply",
            "time": self.clock.stamp(),
            "fieldsV1": tree(paths),
        } | ({"subresource": subresource} if subresource else {})
        unchanged = mine is not None and {**mine, "time": ""} == {**entry, "time": ""}
        if unchanged and before == found:
            return
        if mine is not None:
            entries.remove(mine)
        entries.append(entry)
        found["metadata"]["resourceVersion"] = str(next(self._serial))
        if before.get("spec") != found.get("spec"):
            found["metadata"]["generation"] = found["metadata"].get("generation", 0) + 1


class FakeServers:
    """Implements ports.Servers. told is what each pod says, by its address; asked holds who was asked."""

    def __init__(self) -> None:
        self.told: dict[str, Told] = {}
        self.asked: list[tuple[str, int]] = []

    async def readiness(self, host: str, port: int) -> Told:
        self.asked.append((host, port))
        return self.told.get(host, Silence("no answer within 2 s"))


class FakeCache:
    """The watches' view of a FakeCluster, with its delays."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster

    def resource(self, key: Key) -> Body | None:
        return self.cluster.resource(key)

    def children(self, key: Key) -> Children:
        skipped = self.cluster.hidden | self.cluster.buried
        return {
            kind: [body for body in bodies if body["metadata"]["uid"] not in skipped]
            for kind, bodies in self.cluster._shown(key).items()
        }

    def jobs(self) -> list[Body]:
        skipped = self.cluster.hidden | self.cluster.buried
        return [
            copy.deepcopy(job) for job in self.cluster.all("Job") if job["metadata"]["uid"] not in skipped
        ]

    def bury(self, uids: Collection[str]) -> None:
        self.cluster.bury(uids)


Path = tuple[str, ...]


def leaves(value: Any, at: Path = ()) -> list[Path]:
    if isinstance(value, Mapping) and value:
        return [path for key, below in value.items() for path in leaves(below, (*at, key))]
    return [at] if at else []


def tree(paths: Collection[Path]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path in paths:
        here = root
        for part in path:
            here = here.setdefault(f"f:{part}", {})
    return root


def leaves_of(fields: Mapping[str, Any], at: Path = ()) -> set[Path]:
    if not fields:
        return {at} if at else set()
    return {path for key, below in fields.items() for path in leaves_of(below, (*at, key[2:]))}


def value_at(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value


def put_at(target: dict[str, Any], path: Path, value: Any) -> None:
    for part in path[:-1]:
        target = target.setdefault(part, {})
    if value == {} and isinstance(target.get(path[-1]), dict):
        return  # an empty struct: owned is that it is there
    target[path[-1]] = value


def drop(target: dict[str, Any], path: Path) -> None:
    for part in path[:-1]:
        if part not in target:
            return
        target = target[part]
    target.pop(path[-1], None)
