"""What the operator's account asked of the API server, from the API server's own audit log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from e2e.cases.kubectl import OPERATOR, OPERATOR_NAMESPACE, Kubectl
from e2e.cluster.audit import LOG_FILE, LOG_FOLDER

WRITING = frozenset({"create", "update", "patch", "delete", "deletecollection"})
RESYNC = "RESYNC_SECONDS"


@dataclass(frozen=True)
class Request:
    """One request that has been answered, with the moment at which it came."""

    moment: datetime
    verb: str
    resource: str
    namespace: str
    name: str

    @property
    def writes(self) -> bool:
        """Whether it is one that changes something; renewing a Lease is not counted."""
        return self.verb in WRITING and self.resource != "leases"


def requests(kubectl: Kubectl, since: datetime, until: datetime) -> list[Request]:
    """Return what came between two moments.

    Raises:
        AssertionError: the log begins only after the first of them, so that it cannot say.
    """
    selector = "node-role.kubernetes.io/control-plane"
    (node,) = kubectl.list("nodes", selector)
    folder = LOG_FOLDER.removeprefix("/var/log/")
    text = kubectl("get", "--raw", f"/api/v1/nodes/{node['metadata']['name']}/proxy/logs/{folder}/{LOG_FILE}")
    found = list(_answered(text.splitlines()))
    assert found, "the audit log has no request of the operator"
    assert found[0].moment <= since, f"the audit log begins at {found[0].moment}, after {since}"
    return [request for request in found if since <= request.moment < until]


def counted(found: Iterable[Request]) -> dict[str, int]:
    """Return how many there are of each verb and resource, the most frequent first."""
    return dict(Counter(f"{request.verb} {request.resource}" for request in found).most_common())


@contextmanager
def resync_every(kubectl: Kubectl, seconds: int) -> Iterator[None]:
    """Have the operator compare every resource with the API server this often, which restarts it."""
    operator = kubectl.within(OPERATOR_NAMESPACE)
    (container,) = (operator.get("deployment", "embedding-operator") or {})["spec"]["template"]["spec"][
        "containers"
    ]
    before = next(entry["value"] for entry in container["env"] if entry["name"] == RESYNC)
    _set(operator, str(seconds))
    try:
        yield
    finally:
        _set(operator, before)


def _set(operator: Kubectl, seconds: str) -> None:
    operator("set", "env", OPERATOR, f"{RESYNC}={seconds}")
    operator("rollout", "status", OPERATOR, "--timeout=80s")


def _answered(lines: Iterable[str]) -> Iterator[Request]:
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the last line, half written
        if entry["stage"] == "ResponseStarted":
            continue  # a watch, which is told of again when it ends
        target = entry.get("objectRef", {})
        sub = target.get("subresource")
        yield Request(
            datetime.fromisoformat(entry["requestReceivedTimestamp"]),
            entry["verb"],
            target.get("resource", entry["requestURI"]) + (f"/{sub}" if sub else ""),
            target.get("namespace", ""),
            target.get("name", ""),
        )
