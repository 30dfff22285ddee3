"""The API client against a real HTTP server: what is sent, how answers and failures are read."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from embedding_operator import cluster, naming
from embedding_operator.api import Key
from embedding_operator.cluster import KubernetesCluster
from embedding_operator.errors import ApiError, ConflictError, ForbiddenError, NotFoundError, RejectedError
from embedding_operator.observed import CHILD_KINDS
from tests.unit.operator import samples

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Server:
    """Answers every request with what the test says, and keeps the requests."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, str, dict[str, str], Any, str]] = []

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text) if text else None
        self.requests.append(
            (request.method, request.path, dict(request.query), body, request.headers.get("Content-Type", ""))
        )
        status, answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, str):
            return web.Response(status=status, text=answer)
        return web.json_response(answer, status=status)


def ask(server: Answer, call: Callable[[KubernetesCluster], Awaitable[Any]]) -> Any:
    """Returns what one call returns, with the server as the API server."""

    async def run() -> Any:
        runner = web.ServerRunner(web.Server(server), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        configuration = Configuration()
        configuration.host = f"http://{host}:{port}"
        configuration.api_key["BearerToken"] = "bearer token"
        client = KubernetesCluster(configuration)
        try:
            return await call(client)
        finally:
            await client.close()
            await runner.cleanup()

    return asyncio.run(run())


def test_an_apply_is_server_side_forced_and_ours() -> None:
    server = Server((200, {"kind": "Service", "done": True}))
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "n", "namespace": "d"}}
    assert ask(server, lambda c: c.apply(body, manager="me"))["done"]
    ((method, path, query, sent, kind),) = server.requests
    assert (method, path) == ("PATCH", "/api/v1/namespaces/d/services/n")
    assert query == {"fieldManager": "me", "force": "true"}
    assert sent == body
    assert kind == "application/apply-patch+yaml"


def test_the_status_goes_to_its_sub_resource_with_the_uid() -> None:
    server = Server((200, {}))
    ask(server, lambda c: c.apply_status(samples.model(), {"url": "u"}))
    ((_, path, query, sent, _),) = server.requests
    assert path.endswith("/namespaces/default/embeddingmodels/minilm/status")
    assert query["fieldManager"] == naming.FIELD_MANAGER
    assert (sent["metadata"]["uid"], sent["status"]) == ("owner-uid", {"url": "u"})


def test_a_deletion_names_the_very_object_and_what_is_gone_is_no_error() -> None:
    body = {"kind": "Job", "metadata": {"name": "n", "namespace": "d", "uid": "u"}}
    for status in (200, 404, 409):
        server = Server((status, {"message": "gone"}))
        ask(server, lambda c: c.delete(body))
        ((method, path, _, sent, _),) = server.requests
        assert (method, path) == ("DELETE", "/apis/batch/v1/namespaces/d/jobs/n")
        assert (sent["preconditions"], sent["propagationPolicy"]) == ({"uid": "u"}, "Background")


def test_lists_are_read_page_by_page_and_items_know_their_kind() -> None:
    page = {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "token"}}
    server = Server((200, page), *[(200, {"items": [], "metadata": {}})] * len(CHILD_KINDS))
    children = ask(server, lambda c: c.children(Key("d", "minilm")))
    assert children["PersistentVolumeClaim"][0]["kind"] == "PersistentVolumeClaim"
    first, second = server.requests[:2]
    assert first[2]["labelSelector"].endswith("/model=minilm")
    assert second[2]["continue"] == "token"
    assert len(server.requests) == len(CHILD_KINDS) + 1


def test_an_object_that_is_not_there_is_none() -> None:
    assert ask(Server((404, {"message": "no"})), lambda c: c.get("Job", "d", "n")) is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RejectedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ConflictError),
        (422, RejectedError),
        (500, ApiError),
        (503, ApiError),
    ],
)
def test_refusals_are_errors_of_ours_with_the_servers_words(status: int, kind: type[ApiError]) -> None:
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "n", "namespace": "d"}}
    with pytest.raises(kind) as caught:
        ask(Server((status, {"message": "because"})), lambda c: c.apply(body, manager="me"))
    assert (type(caught.value), caught.value.message, caught.value.status) == (kind, "because", status)


def test_a_field_that_the_schema_has_not_is_a_refusal_though_the_server_says_500() -> None:
    words = (
        "failed to create typed patch object (default/x; apps/v1, Kind=Deployment): "
        ".spec.template.spec.bogus: field not declared in schema"
    )
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "namespace": "d"}}
    with pytest.raises(RejectedError) as caught:
        ask(Server((500, {"message": words})), lambda c: c.apply(body, manager="me"))
    assert (caught.value.message, caught.value.status) == (words, 500)


def test_an_answer_that_is_no_json_is_an_error_of_ours_too() -> None:
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "n", "namespace": "d"}}
    for status, text in ((502, "<html>bad gateway</html>"), (200, "<html>a login page</html>"), (200, "[]")):
        with pytest.raises(ApiError):
            ask(Server((status, text)), lambda c: c.apply(body, manager="me"))


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "TIMEOUT_SECONDS", 0.1)

    async def silent(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    with pytest.raises(ApiError, match="TimeoutError"):
        ask(silent, lambda c: c.get("Job", "d", "n"))


def test_a_server_that_is_not_there_is_an_error_of_ours() -> None:
    async def run() -> None:
        configuration = Configuration()
        configuration.host = "http://127.0.0.1:1"
        client = KubernetesCluster(configuration)
        try:
            await client.get("Job", "d", "n")
        finally:
            await client.close()

    with pytest.raises(ApiError):
        asyncio.run(run())


def test_a_log_that_is_not_there_yet_is_empty() -> None:
    assert ask(Server((400, {"message": "waiting to start"})), lambda c: c.log_tail("d", "p", "c")) == ""
    server = Server((200, "a\nb\n"))
    assert ask(server, lambda c: c.log_tail("d", "p", "c")) == "a\nb\n"
    assert server.requests[0][2] == {"container": "c", "tailLines": "20", "limitBytes": "4096"}


def test_incidents_are_the_events_about_one_object_with_when_they_were_seen_last() -> None:
    events = [
        {"reason": "FailedMount", "message": "m", "lastTimestamp": "2026-01-01T12:00:02Z"},
        {
            "reason": "Scheduled",
            "eventTime": "2026-01-01T12:00:01.000000Z",
            "series": {"lastObservedTime": "2026-01-01T12:00:05.000000Z"},
            "lastTimestamp": None,
        },
        {"reason": "Timeless", "message": None},
    ]
    server = Server((200, {"items": events}))
    found = ask(server, lambda c: c.incidents("d", "Pod", "p"))
    assert [(each.reason, each.message, each.at.second) for each in found] == [
        ("FailedMount", "m", 2), ("Scheduled", "", 5), ("Timeless", "", 0)
    ]  # fmt: skip
    ((_, path, query, _, _),) = server.requests
    assert path == "/api/v1/namespaces/d/events"
    assert query == {"fieldSelector": "involvedObject.kind=Pod,involvedObject.name=p", "limit": "500"}
    assert ask(Server((200, {"items": None})), lambda c: c.incidents("d", "Pod", "p")) == []


def test_hosts_are_schedulable_nodes_with_enough_of_the_resource() -> None:
    def node(name: str, count: str, **spec: bool) -> dict[str, Any]:
        labels = {"kubernetes.io/hostname": f"host-{name}"}
        return {
            "metadata": {"name": name, "labels": labels},
            "spec": spec,
            "status": {"allocatable": {"nvidia.com/gpu": count}},
        }

    bare = {"metadata": {"name": "bare"}, "status": {"allocatable": {"cpu": "2"}}}
    nodes = [node("two", "2"), node("one", "1"), node("cordoned", "8", unschedulable=True), bare]
    server = Server((200, {"items": nodes, "metadata": {}}))
    assert ask(server, lambda c: c.hosts_offering("nvidia.com/gpu", 2)) == ["host-two"]


def test_hosts_with_devices_are_the_schedulable_nodes_that_slices_name() -> None:
    def node(name: str, **spec: bool) -> dict[str, Any]:
        return {
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": f"host-{name}"}},
            "spec": spec,
        }

    nodes = {"items": [node("a"), node("b"), node("c", unschedulable=True)]}
    local = [{"spec": {"nodeName": "b"}}, {"spec": {"nodeName": "c"}}, {"spec": {"nodeName": "b"}}]
    server = Server((200, {"items": local}), (200, nodes))
    assert ask(server, lambda c: c.hosts_with_devices()) == ["host-b"]
    assert server.requests[0][1] == "/apis/resource.k8s.io/v1/resourceslices"


@pytest.mark.parametrize(
    ("answer", "hosts"),
    [
        ((200, {"items": []}), []),
        ((200, {"items": [{"spec": {"nodeName": "b"}}, {"spec": {"allNodes": True}}]}), None),
        ((404, {"message": "the server could not find the requested resource"}), None),
    ],
)
def test_devices_that_are_on_no_node_or_on_any_bind_to_none(
    answer: tuple[int, Any], hosts: list[str] | None
) -> None:
    assert ask(Server(answer), lambda c: c.hosts_with_devices()) == hosts


def test_a_census_reads_nodes_and_the_pods_on_them_page_by_page() -> None:
    nodes = {"items": [{"metadata": {"name": "a"}, "status": {"allocatable": {"nvidia.com/gpu": "2"}}}]}
    pods = [
        {
            "metadata": {"namespace": "ns", "name": name},
            "spec": {
                "nodeName": "a",
                "containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}],
            },
        }
        for name in ("x", "y")
    ]
    server = Server(
        (200, nodes),
        (200, {"items": pods[:1], "metadata": {"continue": "more"}}),
        (200, {"items": pods[1:]}),
    )
    found = ask(server, lambda c: c.census())
    assert [node.name for node in found.nodes] == ["a"]
    assert [tenant.name for tenant in found.tenants] == ["x", "y"]
    assert found.free()["a"]["nvidia.com/gpu"] == 0
    queries = [query for _, _, query, _, _ in server.requests]
    assert queries[1]["fieldSelector"] == "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
    assert queries[2]["continue"] == "more"
    assert all(query["limit"] for query in queries)


def test_an_event_is_about_the_resource_and_of_bounded_length() -> None:
    server = Server((201, {}))
    ask(server, lambda c: c.post_event(samples.model(), reason="R", message="m" * 5000, warning=True))
    ((method, path, _, sent, _),) = server.requests
    assert (method, path) == ("POST", "/api/v1/namespaces/default/events")
    assert sent["involvedObject"]["uid"] == "owner-uid"
    assert (sent["type"], len(sent["message"])) == ("Warning", 1024)


@pytest.mark.parametrize(
    ("answer", "known"), [((200, {"resources": [{"name": "embeddingmodels"}]}), True), ((404, {}), False)]
)
def test_it_is_known_whether_the_crd_is_there(answer: tuple[int, Any], known: bool) -> None:
    assert ask(Server(answer), lambda c: c.serves("EmbeddingModel")) is known
