"""The reconcile of what its user stopped: suspended (no pods), and paused (no writes)."""

import pytest

from embedding_operator import naming
from tests.unit.operator import samples
from tests.unit.operator.world import World

NEW = {"id": "BAAI/bge-small-en-v1.5", "revision": "main", "task": "auto"}


def pause(world: World, value: str = "true") -> None:
    world.em["metadata"].setdefault("annotations", {})[naming.PAUSED_ANNOTATION] = value


# --- suspend


def test_a_suspended_resource_keeps_cache_and_service_and_has_no_pods() -> None:
    world = World()
    world.serve()
    job = world.job()["metadata"]["uid"]
    world.change(suspend=True)
    world.reconcile()
    assert world.cluster.find("Deployment")["spec"]["replicas"] == 0
    assert world.condition("Progressing")[:2] == ("True", "Suspended")
    world.roll()
    world.settle()
    assert [world.condition(kind)[:2] for kind in ("Available", "Progressing", "Ready")] == [
        ("False", "Suspended")
    ] * 3
    assert world.condition("Cached")[:2] == ("True", "Cached")
    assert world.serving() == "abababab"
    assert world.names("PersistentVolumeClaim")
    assert world.job()["metadata"]["uid"] == job
    assert world.em["status"]["summary"]["reason"] == "Suspended"
    assert world.cluster.events[-1][0::2] == ("Suspended", False)


def test_pods_that_somebody_asks_for_at_the_deployment_of_a_suspended_resource_go_again() -> None:
    world = World()
    world.serve()
    world.change(suspend=True)
    world.settle()
    deployment = world.cluster.find("Deployment")
    deployment["spec"]["replicas"] = 2
    for entry in deployment["metadata"]["managedFields"]:
        entry["fieldsV1"].get("f:spec", {}).pop("f:replicas", None)
    world.settle()
    assert world.cluster.find("Deployment")["spec"]["replicas"] == 0


def test_a_resumed_resource_serves_what_it_has_without_another_job() -> None:
    world = World(suspend=True)
    world.change(suspend=False)
    world.serve()
    job = world.job()["metadata"]["uid"]
    world.change(suspend=True)
    world.settle()
    world.change(suspend=False)
    world.settle()
    assert world.cluster.find("Deployment")["spec"]["replicas"] == 2
    world.roll()
    world.settle()
    assert world.ready() == ("True", "Ready")
    assert world.job()["metadata"]["uid"] == job


def test_suspended_from_the_start_nothing_is_fetched() -> None:
    world = World(suspend=True)
    world.settle()
    assert world.cluster.all("Job") == []
    assert world.names("PersistentVolumeClaim")
    assert world.condition("Cached")[:2] == ("False", "Suspended")
    assert world.condition("Accepted")[:2] == ("True", "OneNode")


def test_a_working_job_is_stopped() -> None:
    world = World()
    world.reconcile()
    world.job_pod(phase="Pending")
    world.change(suspend=True)
    world.settle()
    assert world.cluster.all("Job") == []
    assert world.ready() == ("False", "Suspended")


def test_a_job_removed_by_hand_is_missed_only_when_there_is_work_again() -> None:
    world = World()
    world.serve()
    world.change(suspend=True)
    world.settle()
    for kind, name in (("Job", world.names("Job")[0]), ("Pod", world.names("Pod")[0])):
        world.cluster.remove(kind, name)
    world.settle()
    assert world.cluster.all("Job") == []
    assert world.condition("Cached")[:2] == ("True", "Cached")


def test_a_name_that_is_taken_is_told_though_suspended() -> None:
    world = World(suspend=True)
    world.cluster.put({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "minilm"}, "spec": {}})
    world.reconcile()
    assert world.ready() == ("False", "NameConflict")


# --- paused


def test_a_paused_resource_is_written_to_in_its_status_only() -> None:
    world = World()
    world.serve()
    pause(world)
    world.cluster.remove("Service", "minilm")
    world.change(image="mine:1", replicas=7)
    events = list(world.cluster.events)
    world.cluster.writes()
    world.reconcile()
    assert {verb for verb, _, _ in world.cluster.writes()} == {"status"}
    assert world.cluster.events == events
    assert world.condition("Accepted")[:2] == ("True", "OneNode")
    assert world.condition("Progressing")[:2] == ("False", "Paused")
    assert naming.PAUSED_ANNOTATION in world.condition("Ready")[2]


def test_a_paused_resource_that_serves_is_ready_and_says_that_it_is_paused() -> None:
    world = World()
    world.serve()
    pause(world)
    world.reconcile()
    assert world.ready() == ("True", "Ready")
    assert "Paused" in world.condition("Ready")[2]
    world.cluster.writes()
    world.reconcile()
    assert world.cluster.writes() == []


def test_a_paused_rollout_is_not_ready_because_it_is_paused() -> None:
    world = World()
    world.serve()
    world.change(replicas=3)
    pause(world)
    world.reconcile()
    assert world.ready() == ("False", "Paused")


def test_a_paused_switch_tells_what_the_service_selects() -> None:
    world = World()
    world.serve()
    world.change(model=NEW)
    world.settle()
    world.end_job(samples.ok(model=NEW["id"], fingerprint=samples.OTHER), well=True)
    world.settle()
    pause(world)
    world.roll("minilm-cdcdcdcd")
    world.reconcile()
    assert world.em["status"]["fingerprint"] == samples.FINGERPRINT
    assert world.serving() == "abababab"
    pause(world, "false")
    world.reconcile()
    assert world.serving() == "cdcdcdcd"


@pytest.mark.parametrize("value", ["", "false", "True", "yes"])
def test_only_true_pauses(value: str) -> None:
    world = World()
    pause(world, value)
    world.reconcile()
    assert world.cluster.all("Job")
