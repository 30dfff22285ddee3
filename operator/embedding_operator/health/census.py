"""What the nodes have and who holds it, counted from nodes and pods. Pure; read by cluster.py, never watched.

A pod's share is counted as the scheduler does: its containers' requests, or those of an init container where
they are larger, and its overhead.
Source: https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from embedding_operator import api, naming
from embedding_operator.api import Body
from embedding_operator.fields import parse_quantity

Amounts = Mapping[str, Decimal]
"""Amounts by resource name, such as nvidia.com/gpu."""

_NAMED = 5
"""How many holders a message names."""


@dataclass(frozen=True)
class Node:
    """One node. takes_pods: it is not cordoned."""

    name: str
    allocatable: Amounts
    takes_pods: bool


@dataclass(frozen=True)
class Tenant:
    """A pod that has a node. model is the EmbeddingModel that it belongs to, empty where to none."""

    namespace: str
    name: str
    model: str
    node: str
    requests: Amounts


@dataclass(frozen=True)
class Census:
    """All nodes, and all pods that hold something of one; at the time of one look."""

    nodes: tuple[Node, ...]
    tenants: tuple[Tenant, ...]

    def free(self) -> dict[str, dict[str, Decimal]]:
        """Returns what is left on each node that takes pods, by its name."""
        left = {node.name: dict(node.allocatable) for node in self.nodes if node.takes_pods}
        for tenant in self.tenants:
            for resource, amount in tenant.requests.items():
                if resource in left.get(tenant.node, {}):
                    left[tenant.node][resource] -= amount
        return left


@dataclass(frozen=True)
class Unreadable:
    """Why nothing could be counted: the operator may not, or the API server did not answer."""

    words: str


def node(body: Body) -> Node:
    """Returns what counts of a Node object."""
    return Node(
        name=body["metadata"]["name"],
        allocatable=_amounts((body.get("status") or {}).get("allocatable")),
        takes_pods=not (body.get("spec") or {}).get("unschedulable"),
    )


def tenant(body: Body) -> Tenant | None:
    """Returns what counts of a Pod object, None where it holds nothing of a node."""
    spec, metadata = body.get("spec") or {}, body["metadata"]
    if not spec.get("nodeName") or (body.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return None
    labels = metadata.get("labels") or {}
    ours = naming.is_labelled(labels)
    return Tenant(
        namespace=metadata["namespace"],
        name=metadata["name"],
        model=labels.get(naming.MODEL_LABEL, "") if ours else "",
        node=spec["nodeName"],
        requests=requests(spec),
    )


def requests(pod_spec: Body) -> dict[str, Decimal]:
    """Returns what a pod of this spec takes of its node."""
    first = list(pod_spec.get("initContainers") or ())
    sidecars = [container for container in first if container.get("restartPolicy") == "Always"]
    running = _sum([_requests(container) for container in (*sidecars, *(pod_spec.get("containers") or ()))])
    starting = [_requests(container) for container in first if container not in sidecars]
    names = running.keys() | {name for amounts in starting for name in amounts}
    peak = {name: max(amounts.get(name, Decimal()) for amounts in (running, *starting)) for name in names}
    return _sum([peak, _amounts(pod_spec.get("overhead")), {"pods": Decimal(1)}])


def fits(wanted: Amounts, free: Amounts, given_back: Amounts | None = None) -> bool:
    """Returns whether a node has room for a pod, once another has given back what it holds."""
    back = given_back or {}
    return all(
        free.get(name, Decimal()) + back.get(name, Decimal()) >= amount for name, amount in wanted.items()
    )


def scarcity(seen: Census | Unreadable, resource: str, count: int) -> str:
    """Returns how much of a resource there is and is free, and who holds it; a pod asks for count of it.

    The text is the same as long as the facts are.
    """
    if isinstance(seen, Unreadable):
        return f"How many {resource} there are, and who holds them, cannot be told: {seen.words}"
    total = sum((node.allocatable.get(resource, Decimal()) for node in seen.nodes), Decimal())
    if not total:
        return f"No node has {resource}"
    closed = sum(
        (node.allocatable.get(resource, Decimal()) for node in seen.nodes if not node.takes_pods), Decimal()
    )
    free = [amounts.get(resource, Decimal()) for amounts in seen.free().values()]
    words = f"The cluster has {_number(total)} {resource}"
    words += f" ({_number(closed)} on cordoned nodes)" if closed else ""
    words += f", {_number(sum(free, Decimal()))} free"
    if count > 1 and free:
        words += f", at most {_number(max(free))} of them on one node, and a pod asks for {count}"
    held = _holders(seen.tenants, resource)
    return f"{words}; held by {held}" if held else words


def _holders(tenants: Iterable[Tenant], resource: str) -> str:
    amounts = _sum({_holder(tenant): tenant.requests.get(resource, Decimal())} for tenant in tenants)
    amounts = {holder: amount for holder, amount in amounts.items() if amount}
    ranked = sorted(amounts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{holder} ({_number(amount)})" for holder, amount in ranked[:_NAMED]]
    return ", ".join(named) + (f" and {len(ranked) - _NAMED} more" if len(ranked) > _NAMED else "")


def _holder(tenant: Tenant) -> str:
    kind, name = (api.KIND, tenant.model) if tenant.model else ("pod", tenant.name)
    return f"{kind} {tenant.namespace}/{name}"


def _sum(parts: Iterable[Amounts]) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for amounts in parts:
        for name, amount in amounts.items():
            total[name] = total.get(name, Decimal()) + amount
    return total


def _requests(container: Body) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    # what only has a limit requests that
    return _amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _amounts(given: Mapping[str, object] | None) -> dict[str, Decimal]:
    parsed = ((name, parse_quantity(value)) for name, value in (given or {}).items())
    return {name: amount for name, amount in parsed if amount is not None}


def _number(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
