"""The API server, through kubernetes.aio: the only file that talks to it, the watches of kopf aside.

Objects travel as plain dictionaries. Every request has a timeout and is counted.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from embedding_operator import api, metrics, naming
from embedding_operator.api import Body, EmbeddingModel, Key
from embedding_operator.errors import ApiError, ConflictError, ForbiddenError, NotFoundError, RejectedError
from embedding_operator.fields import parse_quantity
from embedding_operator.health import census, incidents
from embedding_operator.health.census import Census
from embedding_operator.health.incidents import Incident
from embedding_operator.observed import (
    BUDGET,
    CHILD_KINDS,
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    JOB,
    POD,
    REVISION,
    SERVICE,
)
from embedding_operator.ports import Children

TIMEOUT_SECONDS = 15.0
PAGE = 500
_LOG_BYTES, _LOG_LINES = 4096, 20
_EVENT_MESSAGE = 1024
"""Longest message of an Event, in characters (the API's own limit)."""
_UNTYPED = "failed to create typed patch object"
"""How the API server's answer begins to a field that the schema has not, or has of another type."""
_SLICES = "/apis/resource.k8s.io/v1/resourceslices"
_ERRORS = {
    400: RejectedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    422: RejectedError,
}


class _Kind(NamedTuple):
    api_version: str
    plural: str


_KINDS = {
    api.KIND: _Kind(api.API_VERSION, api.PLURAL),
    CLAIM: _Kind("v1", "persistentvolumeclaims"),
    SERVICE: _Kind("v1", "services"),
    POD: _Kind("v1", "pods"),
    "Event": _Kind("v1", "events"),
    DEPLOYMENT: _Kind("apps/v1", "deployments"),
    CONFIG_MAP: _Kind("v1", "configmaps"),
    REVISION: _Kind("apps/v1", "controllerrevisions"),
    JOB: _Kind("batch/v1", "jobs"),
    BUDGET: _Kind("policy/v1", "poddisruptionbudgets"),
}


async def connect() -> "KubernetesCluster":
    """Returns a client: inside a pod with its service account, elsewhere as the kubeconfig says.

    Raises errors.ApiError where neither can be read.
    """
    configuration = Configuration()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as error:
        raise ApiError(f"no access to a cluster is configured: {error}") from error
    return KubernetesCluster(configuration)


class KubernetesCluster:
    """Implements ports.Cluster."""

    def __init__(self, configuration: Configuration) -> None:
        self._client = ApiClient(configuration)
        self._client.user_agent = naming.FIELD_MANAGER

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def serves(self, kind: str) -> bool:
        """Returns whether the API server knows the kind."""
        known = _KINDS[kind]
        try:
            answer = await self._json("GET", _root(known.api_version), "APIResourceList")
        except NotFoundError:
            return False
        return any(item.get("name") == known.plural for item in answer.get("resources", ()))

    async def version(self) -> tuple[int, int]:
        """Returns the API server's version, such as (1, 35). Raises errors.ApiError."""
        answer = await self._json("GET", "/version", "Version")
        try:
            # providers write a minor version such as 35+
            return int(answer["major"]), int(str(answer["minor"]).rstrip("+"))
        except (KeyError, ValueError) as error:
            raise ApiError(f"GET /version: the answer has no version: {answer}") from error

    async def get(self, kind: str, namespace: str, name: str) -> Body | None:
        """See ports.Cluster."""
        try:
            found: Body = await self._json("GET", _path(kind, namespace, name), kind)
        except NotFoundError:
            return None
        return found

    async def children(self, key: Key) -> Children:
        """See ports.Cluster."""
        selector = f"{naming.CHILD_SELECTOR},{naming.MODEL_LABEL}={key.name}"
        return {kind: await self._list(kind, _path(kind, key.namespace), selector) for kind in CHILD_KINDS}

    async def apply(self, body: Body, *, manager: str) -> Body:
        """See ports.Cluster."""
        path = _path(body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])
        found: Body = await self._json("PATCH", path, body["kind"], body=body, query=_apply_as(manager))
        return found

    async def apply_status(self, em: EmbeddingModel, status: Mapping[str, Any]) -> None:
        """See ports.Cluster."""
        body = {
            "apiVersion": api.API_VERSION,
            "kind": api.KIND,
            "metadata": {"name": em.name, "namespace": em.namespace, "uid": em.uid},
            "status": status,
        }
        path = f"{_path(api.KIND, em.namespace, em.name)}/status"
        await self._json(
            "PATCH", path, f"{api.KIND}/status", body=body, query=_apply_as(naming.FIELD_MANAGER)
        )

    async def delete(self, body: Body) -> None:
        """See ports.Cluster."""
        metadata = body["metadata"]
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": metadata["uid"]},
        }
        path = _path(body["kind"], metadata["namespace"], metadata["name"])
        try:
            await self._json("DELETE", path, body["kind"], body=options)
        except (NotFoundError, ConflictError):
            return  # gone, or another object by now

    async def log_tail(self, namespace: str, pod: str, container: str) -> str:
        """See ports.Cluster."""
        query = {"container": container, "tailLines": str(_LOG_LINES), "limitBytes": str(_LOG_BYTES)}
        try:
            text = await self._request("GET", f"{_path(POD, namespace, pod)}/log", "Pod/log", query=query)
        except (NotFoundError, RejectedError):
            return ""  # not started yet, or gone
        return text.decode(errors="replace")

    async def incidents(self, namespace: str, kind: str, name: str) -> list[Incident]:
        """See ports.Cluster."""
        query = {
            "fieldSelector": f"involvedObject.kind={kind},involvedObject.name={name}",
            "limit": str(PAGE),
        }
        answer = await self._json("GET", _path("Event", namespace), "Event", query=query)
        return [incidents.incident(event) for event in answer.get("items") or ()]

    async def hosts_offering(self, resource: str, count: int) -> list[str]:
        """See ports.Cluster."""
        nodes = await self._list("Node", "/api/v1/nodes", "")
        return _hosts(nodes, lambda node: _offers(node, resource) >= count)

    async def hosts_with_devices(self) -> list[str] | None:
        """See ports.Cluster."""
        try:
            slices = await self._list("ResourceSlice", _SLICES, "")
        except NotFoundError:
            return None  # an older cluster: the API server says of the pods what it makes of their claims
        names = {(found.get("spec") or {}).get("nodeName") for found in slices}
        if None in names:
            return None
        nodes = await self._list("Node", "/api/v1/nodes", "") if names else []
        return _hosts(nodes, lambda node: node["metadata"]["name"] in names)

    async def post_event(self, em: EmbeddingModel, *, reason: str, message: str, warning: bool) -> None:
        """See ports.Cluster."""
        now = _now()
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{em.name}.", "namespace": em.namespace},
            "involvedObject": {
                "apiVersion": api.API_VERSION,
                "kind": api.KIND,
                "name": em.name,
                "namespace": em.namespace,
                "uid": em.uid,
            },
            "reason": reason,
            "message": message[:_EVENT_MESSAGE],
            "type": "Warning" if warning else "Normal",
            "source": {"component": naming.FIELD_MANAGER},
            "reportingComponent": naming.FIELD_MANAGER,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._json("POST", _path("Event", em.namespace), "Event", body=body)

    async def census(self) -> Census:
        """See ports.Cluster. Of each page only what counts is kept."""
        nodes = [census.node(body) async for body in self._each("Node", "/api/v1/nodes")]
        on_nodes = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
        pods = [
            census.tenant(body) async for body in self._each(POD, "/api/v1/pods", {"fieldSelector": on_nodes})
        ]
        return Census(tuple(nodes), tuple(pod for pod in pods if pod is not None))

    async def _list(self, kind: str, path: str, selector: str) -> list[Body]:
        query = {"labelSelector": selector} if selector else {}
        return [body async for body in self._each(kind, path, query)]

    async def _each(
        self, kind: str, path: str, query: Mapping[str, str] | None = None
    ) -> AsyncIterator[Body]:
        """Yields all objects under a path, page by page. List items come without kind: it is put back."""
        query = {"limit": str(PAGE), **(query or {})}
        version = _KINDS[kind].api_version if kind in _KINDS else "v1"
        while True:
            page = await self._json("GET", path, kind, query=query)
            for item in page.get("items") or ():
                yield {"apiVersion": version, "kind": kind} | item
            token = page.get("metadata", {}).get("continue")
            if not token:
                return
            query["continue"] = token

    async def _json(
        self,
        method: str,
        path: str,
        kind: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        data = await self._request(method, path, kind, body=body, query=query)
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None  # a proxy's page
        if not isinstance(answer, dict):
            raise ApiError(f"{method} {path}: the answer is no JSON object")
        return answer

    async def _request(
        self,
        method: str,
        path: str,
        kind: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> bytes:
        headers = {"Accept": "application/json" if kind != "Pod/log" else "*/*"}
        if method == "PATCH":
            headers["Content-Type"] = "application/apply-patch+yaml"
        code = "none"
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                _, url, headers, payload, _ = await self._client.param_serialize(
                    method,
                    path,
                    query_params=list((query or {}).items()),
                    header_params=headers,
                    body=body,
                    auth_settings=["BearerToken"],
                )
                response = await self._client.call_api(
                    method,
                    url,
                    headers,
                    payload,
                    _request_timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
                )
                data: bytes = await response.read()  # type: ignore[no-untyped-call]
            code = str(response.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(f"{method} {path}: {type(error).__name__} {error}".rstrip()) from error
        finally:
            metrics.API_REQUESTS.labels(method, kind, code).inc()
        if response.status >= 300:
            raise _error(response.status, data)
        return data


def _hosts(nodes: Iterable[Body], has: Callable[[Body], bool]) -> list[str]:
    return sorted(
        node["metadata"].get("labels", {}).get("kubernetes.io/hostname", node["metadata"]["name"])
        for node in nodes
        if has(node) and not node.get("spec", {}).get("unschedulable")
    )


def _offers(node: Body, resource: str) -> int:
    amount = parse_quantity(((node.get("status") or {}).get("allocatable") or {}).get(resource, "0"))
    return int(amount or 0)


def _error(status: int, data: bytes) -> ApiError:
    try:
        message = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        message = data[:300].decode(errors="replace") or f"HTTP {status}"
    # what is the object's fault is answered as if it were the server's own
    untyped = status == 500 and message.startswith(_UNTYPED)
    return (RejectedError if untyped else _ERRORS.get(status, ApiError))(message, status=status)


def _apply_as(manager: str) -> dict[str, str]:
    return {"fieldManager": manager, "force": "true"}


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _path(kind: str, namespace: str, name: str | None = None) -> str:
    known = _KINDS[kind]
    path = f"{_root(known.api_version)}/namespaces/{namespace}/{known.plural}"
    return path if name is None else f"{path}/{name}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
