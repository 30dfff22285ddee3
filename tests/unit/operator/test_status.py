"""From what is observed to conditions: times, reasons, the summary that the printer columns show."""

from typing import Any

import pytest

from embedding_operator import naming
from tests.unit.operator import samples
from tests.unit.operator.world import World


def times(world: World) -> dict[str, str]:
    return {item["type"]: item["lastTransitionTime"] for item in world.em["status"]["conditions"]}


def test_all_conditions_are_there_from_the_first_reconcile_in_one_order() -> None:
    world = World()
    world.reconcile()
    kinds = [item["type"] for item in world.em["status"]["conditions"]]
    assert kinds == [
        "Accepted", "Cached", "Scheduled", "Available", "Progressing", "Reconciling", "Stalled", "Ready"
    ]  # fmt: skip
    assert {item["observedGeneration"] for item in world.em["status"]["conditions"]} == {1}


def test_a_time_moves_when_the_status_flips_and_not_with_the_reason() -> None:
    world = World()
    world.reconcile()
    first = times(world)
    world.clock.advance(60)
    world.job_pod(phase="Pending", conditions=samples.unscheduled("no room"))
    world.reconcile()
    assert world.condition("Cached")[1] == "Unschedulable"
    assert times(world) == first
    world.end_job(samples.ok(), well=True)
    world.reconcile()
    assert times(world)["Cached"] == world.clock.stamp() != first["Cached"]
    assert times(world)["Accepted"] == first["Accepted"]


def test_observed_generation_follows_the_spec() -> None:
    world = World()
    world.serve()
    world.change(replicas=1)
    world.reconcile()
    assert world.em["status"]["observedGeneration"] == world.em["metadata"]["generation"] == 2


def pod_status(state: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {
        "phase": "Running",
        "containerStatuses": samples.container_status(naming.CONTAINER, state, **rest),
    }


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (pod_status({"waiting": {"reason": "ErrImageNeverPull"}}), "ErrImageNeverPull"),
        (pod_status({"waiting": {"reason": "ImagePullBackOff"}}), "ImagePullBackOff"),
        (
            pod_status(
                {"waiting": {"reason": "CrashLoopBackOff"}}, lastState={"terminated": {"exitCode": 1}}
            ),
            "CrashLoopBackOff",
        ),
        (
            pod_status({"running": {}}, lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            "OOMKilled",
        ),
        ({"phase": "Pending", "conditions": samples.unscheduled("no room")}, "Unschedulable"),
        (pod_status({"running": {}}, started=True), "NotReady"),
    ],
)
def test_a_problem_of_the_pods_is_the_reason_of_ready(status: dict[str, Any], reason: str) -> None:
    world = World()
    world.prefetched()
    world.settle()
    world.server_pod("minilm-abababab-x", **status)
    world.reconcile()
    assert world.ready() == ("False", reason)
    assert world.condition("Available")[:2] == ("False", reason)
    assert world.em["status"]["summary"]["reason"] == reason


def test_one_pod_that_cannot_run_makes_it_unready_and_leaves_it_available() -> None:
    world = World()
    world.prefetched()
    world.settle()
    world.server_pod("minilm-abababab-x", phase="Pending", conditions=samples.unscheduled("no room"))
    world.roll(ready=1)
    world.reconcile()
    assert world.condition("Available")[:2] == ("True", "Available")
    assert world.ready() == ("False", "Unschedulable")
    assert world.em["status"]["summary"]["replicas"] == "1/2"


def test_scheduled_says_what_the_scheduler_says_while_another_pod_has_a_graver_problem() -> None:
    world = World(cache={"accessMode": "ReadWriteMany"})
    world.prefetched()
    world.settle()
    assert world.condition("Scheduled")[:2] == ("False", "Starting")
    world.server_pod("minilm-abababab-x", **pod_status({"waiting": {"reason": "ErrImageNeverPull"}}))
    world.server_pod("minilm-abababab-y", phase="Pending", conditions=samples.unscheduled("no room"))
    world.reconcile()
    assert world.ready() == ("False", "ErrImageNeverPull")
    assert world.condition("Scheduled") == (
        "False", "Unschedulable", "1 of 2 pods: cannot be scheduled: no room"
    )  # fmt: skip
    world.server_pod("minilm-abababab-y", **pod_status({"running": {}}))
    world.reconcile()
    assert world.condition("Scheduled")[:2] == ("True", "Scheduled")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [({}, "WaitingForCache"), ({"replicas": 0}, "ScaledToZero"), ({"suspend": True}, "Suspended")],
)
def test_scheduled_says_why_there_are_no_pods(spec: dict[str, Any], reason: str) -> None:
    world = World(**spec)
    world.reconcile()
    assert world.condition("Scheduled")[:2] == ("False", reason)


def test_pods_that_are_refused_are_told() -> None:
    world = World()
    world.prefetched()
    world.settle()
    world.cluster.find("Deployment")["status"] = {
        "conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods=0"}]
    }
    world.reconcile()
    assert world.ready() == ("False", "PodsRejected")
    assert "exceeded quota" in world.condition("Ready")[2]


def test_a_new_template_that_is_not_observed_yet_is_not_ready() -> None:
    world = World()
    world.serve()
    world.cluster.find("Deployment")["metadata"]["generation"] += 1
    world.reconcile()
    assert world.ready() == ("False", "RollingOut")


def test_the_selector_is_that_of_the_served_pods() -> None:
    world = World()
    world.serve()
    assert world.em["status"]["selector"] == (
        "app.kubernetes.io/component=serving,"
        "inference.semantic-explorer.io/fingerprint=abababab,"
        "inference.semantic-explorer.io/model=minilm"
    )
    assert (world.em["status"]["replicas"], world.em["status"]["readyReplicas"]) == (2, 2)
