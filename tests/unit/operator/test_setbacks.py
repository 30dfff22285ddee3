"""What only Events tell is told in their words, read rarely, and for as long as it lasts."""

from typing import Any

import pytest

from embedding_operator.errors import ApiError
from tests.unit.operator import samples
from tests.unit.operator.world import World

MISSING = 'MountVolume.SetUp failed for volume "extra" : secret "extra" not found'


def rolling(**spec: Any) -> World:
    world = World(replicas=1, **spec)
    world.prefetched()
    world.settle()
    world.roll(ready=0)
    return world


def waiting(world: World, **changes: Any) -> None:
    """One pod has a node since now, and no container yet."""
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": world.clock.stamp()}
    state = samples.container_status("server", {"waiting": {"reason": "ContainerCreating"}})
    world.server_pod(
        "pod-0", **{"phase": "Pending", "conditions": [placed], "containerStatuses": state} | changes
    )


def killed(world: World, **ended: Any) -> None:
    """The server runs again after it was killed; since when it had run is now."""
    last = {"terminated": {"exitCode": 137, "reason": "Error", "startedAt": world.clock.stamp()} | ended}
    state = samples.container_status("server", {"running": {}}, started=False, restartCount=1, lastState=last)
    world.server_pod("pod-0", phase="Running", containerStatuses=state)


def looks(world: World) -> int:
    return world.cluster.requests.count(("list", "Event", "pod-0"))


def told(world: World, reason: str) -> list[str]:
    return [event[1] for event in world.cluster.events if event[0] == reason]


def test_a_secret_that_is_missing_is_named_after_a_while_in_one_event() -> None:
    world = rolling()
    waiting(world)
    world.cluster.tell("pod-0", "FailedMount", MISSING)
    outcome = world.reconcile()
    assert world.condition("Available")[1] == "Starting"
    assert 0 < (outcome.look_again or 0) <= 10
    world.clock.advance(10)
    for _ in range(3):
        world.reconcile()
    status, reason, message = world.condition("Ready")
    assert (status, reason) == ("False", "FailedMount")
    assert 'secret "extra" not found' in message
    assert told(world, "FailedMount") == [message]


def test_the_api_keys_are_named_by_their_field() -> None:
    world = rolling(server={"apiKeySecretRef": {"name": "keys", "key": "clients"}})
    waiting(world)
    world.cluster.tell("pod-0", "FailedMount", MISSING.replace("extra", "keys"))
    world.clock.advance(10)
    world.reconcile()
    assert world.ready() == ("False", "MissingSecret")
    assert "spec.server.apiKeySecretRef" in world.condition("Available")[2]


def test_a_mount_that_failed_for_a_moment_is_not_told_while_the_image_is_pulled() -> None:
    world = rolling()
    waiting(world)
    world.cluster.tell("pod-0", "FailedMount", MISSING)
    world.clock.advance(5)
    world.cluster.tell("pod-0", "Pulling", "Pulling image")
    world.clock.advance(10)
    world.reconcile()
    assert world.condition("Available")[1] == "Starting"
    assert told(world, "FailedMount") == []


def test_while_it_lasts_events_are_read_rarely_and_nothing_is_written() -> None:
    world = rolling()
    waiting(world)
    world.cluster.tell("pod-0", "FailedMount", MISSING)
    world.clock.advance(10)
    world.reconcile()
    world.cluster.requests.clear()
    for _ in range(20):
        world.clock.advance(2)
        world.reconcile()
    assert looks(world) == 2
    assert world.cluster.writes() == []
    world.clock.advance(3600)
    world.reconcile()
    world.cluster.requests.clear()
    for _ in range(10):
        world.clock.advance(20)
        world.reconcile()
    assert looks(world) == 0


@pytest.mark.parametrize("exit_code", [0, 137])
def test_a_probe_that_had_the_server_killed_is_the_root_cause(exit_code: int) -> None:
    world = rolling()
    killed(world, exitCode=exit_code)
    world.cluster.tell("pod-0", "Unhealthy", "Startup probe failed: HTTP probe failed with statuscode: 404")
    world.cluster.tell("pod-0", "Killing", "Container server failed startup probe, will be restarted")
    world.reconcile()
    status, reason, message = world.condition("Ready")
    assert (status, reason) == ("False", "ProbeFailed")
    assert "its startup probe failed: HTTP probe failed with statuscode: 404" in message
    assert told(world, "ProbeFailed") == [message]


@pytest.mark.parametrize(("exit_code", "reason"), [(137, "ProbeFailed"), (1, "CrashLoopBackOff")])
def test_a_node_that_repeats_itself_falls_silent_and_the_cause_stays(exit_code: int, reason: str) -> None:
    world = rolling()
    world.cluster.tell("pod-0", "Killing", "Container server failed liveness probe, will be restarted")
    world.clock.advance(600)
    killed(world, exitCode=exit_code)
    world.reconcile()
    assert world.condition("Available")[1] == reason


@pytest.mark.parametrize("ended", [{"reason": "OOMKilled"}, {"message": "Traceback"}])
def test_a_server_that_ended_of_something_else_says_that(ended: dict[str, str]) -> None:
    world = rolling()
    killed(world, **ended)
    world.reconcile()
    assert world.condition("Available")[1] == ended.get("reason", "CrashLoopBackOff")


def test_a_pod_whose_container_runs_is_not_looked_up() -> None:
    world = rolling()
    waiting(
        world,
        phase="Running",
        containerStatuses=samples.container_status("server", {"running": {}}, started=True),
    )
    world.clock.advance(60)
    world.reconcile()
    assert looks(world) == 0
    assert world.condition("Available")[1] == "NotReady"


def test_events_that_cannot_be_read_change_nothing() -> None:
    world = rolling()
    waiting(world)
    world.clock.advance(10)
    world.cluster.untold = ApiError("no")
    assert world.reconcile().look_again is not None
    assert world.condition("Available")[1] == "Starting"


# --- the Job


def test_a_job_whose_pod_a_quota_refuses_says_so() -> None:
    world = World()
    world.reconcile()
    job = world.job()["metadata"]["name"]
    for name in ("abcde", "fghij"):
        words = f'Error creating: pods "{job}-{name}" is forbidden: exceeded quota: few, requested: pods=1'
        world.cluster.tell(job, "FailedCreate", words)
        world.clock.advance(10)
        assert world.reconcile().look_again == 10
    status, reason, message = world.condition("Cached")
    assert (status, reason) == ("False", "PodsRejected")
    assert message == "the Job's pod cannot be created: exceeded quota: few, requested: pods=1"
    assert told(world, "PodsRejected") == [message]
    world.cluster.tell(job, "SuccessfulCreate", "Created pod")
    world.reconcile()
    assert world.condition("Cached")[1] == "Pending"


@pytest.mark.parametrize(
    ("cache", "advice"),
    [
        ({"storageClassName": "fast"}, "Check class fast, which spec.cache.storageClassName names"),
        ({}, "Name a class with a provisioner in spec.cache.storageClassName"),
    ],
)
def test_a_claim_that_gets_no_volume_says_why(cache: dict[str, str], advice: str) -> None:
    world = World(cache=cache)
    world.reconcile()
    claim = world.cluster.find("PersistentVolumeClaim")
    claim["status"] = {"phase": "Pending"}
    world.job_pod(phase="Pending", conditions=samples.unscheduled("pod has unbound immediate claims"))
    world.clock.advance(10)
    world.reconcile()
    assert world.condition("Cached")[1] == "Unschedulable"
    world.cluster.tell(claim["metadata"]["name"], "ProvisioningFailed", 'class "fast" not found')
    world.clock.advance(10)
    world.reconcile()
    status, reason, message = world.condition("Cached")
    assert (status, reason) == ("False", "UnboundClaim")
    assert f'claim {claim["metadata"]["name"]} has no volume: class "fast" not found. {advice}' in message
    claim["status"] = {"phase": "Bound"}
    world.reconcile()
    assert world.condition("Cached")[1] == "Unschedulable"
