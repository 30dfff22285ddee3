"""spec.podTemplate on its way into the pods: what is refused changes nothing, what is merged stays."""

from typing import Any

import pytest

from embedding_operator.errors import RejectedError
from embedding_operator.reconcile import Reconciler
from embedding_operator.resources import merge
from tests.unit.operator import samples
from tests.unit.operator.test_reconcile_rollback import overdue
from tests.unit.operator.world import World

HOST = {"spec": {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}}
SIDE = {"spec": {"containers": [{"name": "side", "image": "side:1"}]}}


def allowing(world: World, *privileges: str) -> None:
    """The operator starts anew with this allowance."""
    world.reconciler = Reconciler(
        world.cluster, world.cache, world.servers, samples.RUNTIME, world.clock, allowed=privileges
    )


def containers(world: World) -> list[str]:
    template = world.cluster.find("Deployment")["spec"]["template"]
    return [found["name"] for found in template["spec"]["containers"]]


def test_a_template_is_rolled_out_and_then_nothing_is_written() -> None:
    world = World()
    world.serve()
    world.change(podTemplate=SIDE)
    world.settle()
    assert containers(world) == ["server", "side"]
    world.roll()
    world.settle()
    assert world.ready() == ("True", "Ready")


def test_a_way_up_is_refused_by_its_path_and_what_serves_goes_on() -> None:
    world = World()
    world.serve()
    before = world.cluster.find("Deployment")
    world.change(podTemplate=HOST)
    world.reconcile()
    status, reason, message = world.condition("Accepted")
    assert (status, reason) == ("False", "PodTemplateRefused")
    assert message.startswith("spec.podTemplate.spec.volumes[host].hostPath: leave it out")
    assert "add hostPath to POD_TEMPLATE_ALLOW" in message
    assert world.condition("Available")[0] == "True"
    assert world.condition("Stalled")[:2] == ("True", "PodTemplateRefused")
    assert world.cluster.find("Deployment") == before
    assert [event for event in world.cluster.events if event[0] == "PodTemplateRefused"] == [
        ("PodTemplateRefused", message, True)
    ]
    world.reconcile()
    assert world.cluster.writes()[-1:] != [("apply", "Deployment", before["metadata"]["name"])]


def test_nothing_is_made_for_a_template_that_is_refused_from_the_start() -> None:
    world = World(podTemplate=HOST)
    world.settle()
    assert world.ready() == ("False", "PodTemplateRefused")
    assert [*world.cluster.all("Job"), *world.cluster.all("PersistentVolumeClaim")] == []


def test_what_the_administrator_allows_is_made() -> None:
    world = World()
    allowing(world, "hostPath")
    world.serve()
    world.change(podTemplate=HOST)
    world.settle()
    volumes = world.cluster.find("Deployment")["spec"]["template"]["spec"]["volumes"]
    assert volumes[-1] == {"name": "host", "hostPath": {"path": "/"}}


def test_nothing_goes_back_to_what_is_no_longer_allowed() -> None:
    world = World(rollout={"progressDeadlineSeconds": 60}, podTemplate=HOST)
    allowing(world, "hostPath")
    world.serve()
    world.settle()
    held = world.em["status"]["rollout"]["lastGood"]
    allowing(world)
    world.change(podTemplate=SIDE)
    world.settle()
    assert "lastGood" not in world.em["status"]["rollout"]
    overdue(world)
    world.settle()
    assert containers(world) == ["server", "side"]
    assert "host" not in str(world.cluster.find("Deployment")["spec"]["template"]["spec"]["volumes"])
    assert world.condition("Stalled")[0] == "True"
    (kept,) = world.cluster.all("ControllerRevision")
    assert kept["metadata"]["name"].endswith(f"-{held}")


def test_the_current_template_is_the_one_that_the_pods_have() -> None:
    world = World()
    world.serve()
    world.settle()
    before = world.em["status"]["rollout"]
    world.change(podTemplate=HOST)
    world.settle()
    assert world.em["status"]["rollout"] == before


def test_a_pod_that_the_api_server_finds_invalid_is_answered_in_its_words() -> None:
    world = World()
    world.serve()
    world.cluster.refuse["Deployment"] = RejectedError("spec.bogus: field not declared in schema", status=500)
    world.change(podTemplate={"spec": {"bogus": 1}})
    world.reconcile()
    status, reason, message = world.condition("Accepted")
    assert (status, reason) == ("False", "Rejected")
    assert "spec.bogus: field not declared in schema" in message
    assert world.condition("Available")[0] == "True"


@pytest.mark.parametrize(
    ("base", "patch", "found"),
    [
        pytest.param({"a": 1}, {"a": 2, "b": 3}, {"a": 2, "b": 3}, id="fields"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": 2}}, id="objects"),
        pytest.param({"args": ["a"]}, {"args": ["b"]}, {"args": ["b"]}, id="other lists are replaced"),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"env": [{"name": "C", "value": "3"}, {"name": "B", "value": "4"}]},
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "4"}, {"name": "C", "value": "3"}]},
            id="variables by name, ours in front",
        ),
        pytest.param(
            {"volumeMounts": [{"name": "a", "mountPath": "/a"}]},
            {"volumeMounts": [{"name": "b", "mountPath": "/a"}, {"name": "a", "mountPath": "/b"}]},
            {"volumeMounts": [{"name": "b", "mountPath": "/a"}, {"name": "a", "mountPath": "/b"}]},
            id="mounts by path",
        ),
        pytest.param(
            {"ports": [{"containerPort": 1, "protocol": "TCP"}]},
            {"ports": [{"containerPort": 1, "name": "x"}, {"containerPort": 1, "protocol": "UDP"}]},
            {"ports": [
                {"containerPort": 1, "protocol": "TCP", "name": "x"}, {"containerPort": 1, "protocol": "UDP"}
            ]},
            id="ports by number and protocol",
        ),
    ],
)  # fmt: skip
def test_a_merge_is_strategic(base: dict[str, Any], patch: dict[str, Any], found: dict[str, Any]) -> None:
    assert merge.merged({"metadata": {}, "spec": base}, {"spec": patch}) == {"metadata": {}, "spec": found}


def test_without_a_template_the_pods_are_as_they_were() -> None:
    base = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "server"}]}}
    assert merge.merged(base, {}) == base


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ({"fieldRef": {"fieldPath": "metadata.name"}},
         {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}),
        ({"items": [{"path": "cpu", "resourceFieldRef": {"resource": "limits.cpu"}}]},
         {"items": [{"path": "cpu", "resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}]}),
        ({"sources": [{"serviceAccountToken": {"path": "t"}}]},
         {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}),
    ],
)  # fmt: skip
def test_what_the_api_server_adds_within_what_we_own_is_no_difference(written: Any, stored: Any) -> None:
    assert merge.stored(written) == stored == merge.stored(stored)
