"""A decrease of replicas waits for pods that still load (kserve#1247)."""

from datetime import timedelta
from typing import Any

import pytest

from embedding_operator import api, naming
from embedding_operator.sets import scaling
from tests.unit.operator import samples
from tests.unit.operator.fakes import Clock
from tests.unit.operator.world import World

CLOCK = Clock()
DEADLINE = timedelta(seconds=600)


def placed(seconds_ago: float, clock: Clock = CLOCK, **status: Any) -> dict[str, Any]:
    """The status of a pod that got its node so many seconds ago."""
    since = (clock() - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": since}
    return {"phase": "Pending", "conditions": [condition, *status.pop("conditions", [])], **status}


def running(state: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"containerStatuses": samples.container_status(naming.CONTAINER, state, **rest)}


CRASHED = {"waiting": {"reason": "CrashLoopBackOff"}}


@pytest.mark.parametrize(
    ("status", "loads"),
    [
        pytest.param(placed(10), True, id="being set up"),
        pytest.param(placed(10, **running({"running": {}}, started=True)), True, id="loads the model"),
        pytest.param(placed(599), True, id="within the deadline"),
        pytest.param(placed(600), False, id="past the deadline"),
        pytest.param(placed(10, conditions=[{"type": "Ready", "status": "True"}]), False, id="ready"),
        pytest.param({"conditions": samples.unscheduled("no room")}, False, id="has no node"),
        pytest.param({"phase": "Pending"}, False, id="not looked at by the scheduler"),
        pytest.param(
            placed(10, **running(CRASHED, lastState={"terminated": {"exitCode": 1}})), False, id="crashes"
        ),
        pytest.param(placed(10, **running({"waiting": {"reason": "ErrImagePull"}})), False, id="no image"),
    ],
)
def test_what_a_decrease_waits_for(status: dict[str, Any], loads: bool) -> None:
    deployment = {
        "metadata": {
            "managedFields": [
                {
                    "manager": naming.FIELD_MANAGER,
                    "operation": "Apply",
                    "fieldsV1": {"f:spec": {"f:replicas": {}}},
                }
            ]
        },
        "spec": {"replicas": 2},
    }
    found = scaling.hold(deployment, [samples.pod("a", **status)], 1, DEADLINE, CLOCK())
    assert (found is not None) is loads
    assert scaling.hold(deployment, [samples.pod("a", **status)], 2, DEADLINE, CLOCK()) is None
    theirs = {**deployment, "metadata": {}}
    assert scaling.hold(theirs, [samples.pod("a", **status)], 1, DEADLINE, CLOCK()) is None


def scaled_down(replicas: int, **status: Any) -> World:
    """Three served pods and a fourth that loads, scaled down."""
    world = World(replicas=3)
    world.serve()
    world.change(replicas=4)
    world.settle()
    world.roll(ready=3)
    world.server_pod("minilm-abababab-new", **(status or placed(10, world.clock)))
    world.settle()
    world.change(replicas=replicas)
    world.settle()
    return world


def size(world: World) -> int:
    found: int = world.cluster.find("Deployment")["spec"]["replicas"]
    return found


@pytest.mark.parametrize("replicas", [3, 1, 0])
def test_a_decrease_waits_for_a_pod_that_loads_and_says_so(replicas: int) -> None:
    world = scaled_down(replicas)
    assert size(world) == 4
    status, reason, message = world.condition("Progressing")
    assert (status, reason) == ("True", "ScaleDownWaits")
    assert "minilm-abababab-new" in message
    assert "2026-01-01T12:10:00Z" in message
    world.cluster.find("Pod", "minilm-abababab-new")["status"]["conditions"] += [
        {"type": "Ready", "status": "True"}
    ]
    world.roll()
    world.settle()
    assert size(world) == replicas


def test_it_waits_no_longer_than_the_progress_deadline_also_over_a_restart_of_the_operator() -> None:
    world = scaled_down(1)
    world.restart_operator()
    assert 0 < (world.reconcile().look_again or 0) <= 590
    world.clock.advance(590)
    world.settle()
    assert size(world) == 1


def test_suspend_and_another_increase_do_not_wait() -> None:
    world = scaled_down(1)
    world.change(replicas=6)
    world.settle()
    assert size(world) == 6
    world.change(suspend=True)
    world.settle()
    assert size(world) == 0


def test_what_somebody_else_wrote_to_the_deployment_is_not_waited_for() -> None:
    world = World(replicas=1)
    world.serve()
    deployment = world.cluster.find("Deployment")
    deployment["spec"]["replicas"] = 4
    for entry in deployment["metadata"]["managedFields"]:
        entry["fieldsV1"].get("f:spec", {}).pop("f:replicas", None)
    world.server_pod("minilm-abababab-new", **placed(10, world.clock))
    world.settle()
    assert size(world) == 1
    assert world.cluster.find(api.KIND)["spec"]["replicas"] == 1
