"""An update on a full cluster never deadlocks and takes no more capacity down than it must (LLMKube#192,
kserve#4618)."""

from typing import Any

import pytest

from tests.unit.operator import samples
from tests.unit.operator.full_cluster import BAD, FullCluster

NEW = {"id": "BAAI/bge-small-en-v1.5", "revision": "main", "task": "auto"}
GOOD = "registry.example/good:2"


def started(gpus: int, replicas: int, **rollout: Any) -> FullCluster:
    """A served model on a cluster with so many GPUs."""
    world = FullCluster(gpus, replicas=replicas, rollout={"progressDeadlineSeconds": 80} | rollout)
    world.start()
    return world


def strategy(world: FullCluster) -> str:
    found: str = world.em["status"]["rollout"]["strategy"]
    return found


# --- another template of the same set


def test_where_there_is_room_a_pod_is_added_first() -> None:
    world = started(3, 2)
    world.change(image=GOOD)
    world.run_until("RollingOut")
    assert strategy(world) == "Surge"
    world.run_until("Ready")
    assert (world.least, world.pods_with_image(GOOD)) == (2, 2)


def test_without_room_it_waits_as_long_as_was_asked_and_replaces_then() -> None:
    world = started(2, 2, surgeWaitSeconds=30)
    world.change(image=GOOD)
    world.run_until("WaitingForRoom")
    status, _, message = world.condition("Progressing")
    assert status == "True"
    assert "Insufficient nvidia.com/gpu" in message
    assert "2026-01-01T12:01:0" in message
    world.run(25)
    assert (strategy(world), world.answering()) == ("Surge", 2)
    world.run(8)
    assert strategy(world) == "Replace"
    assert "pods of before leave first" in world.condition("Progressing")[2]
    world.run_until("Ready")
    assert (world.least, world.pods_with_image(GOOD)) == (1, 2)
    assert strategy(world) == "Surge"
    assert "strategy" not in world.condition("Ready")[2]


def test_devices_of_claims_are_given_back_like_those_that_are_counted() -> None:
    claims = {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]}
    words = "0/1 nodes are available: 1 cannot allocate all claims. still not schedulable"
    world = FullCluster(2, words, gpu=claims, replicas=2, rollout={"surgeWaitSeconds": 30})
    world.start()
    world.change(image=GOOD)
    world.run_until("WaitingForRoom")
    assert "cannot allocate all claims" in world.condition("Progressing")[2]
    world.run_until("Ready")
    assert (world.least, world.pods_with_image(GOOD)) == (1, 2)


def test_a_restart_of_the_operator_changes_nothing_on_the_way() -> None:
    world = started(2, 2, surgeWaitSeconds=30)
    world.change(image=GOOD)
    for _ in range(120):
        world.restart_operator()
        world.run(1)
    assert world.ready() == ("True", "Ready")
    assert (world.least, world.pods_with_image(GOOD)) == (1, 2)


def test_room_that_appears_in_time_is_used() -> None:
    world = started(2, 2)
    world.change(image=GOOD)
    world.run_until("WaitingForRoom")
    world.gpus = 3
    world.run_until("Ready")
    assert (world.least, world.pods_with_image(GOOD)) == (2, 2)


def test_a_single_pod_without_room_for_its_successor_waits_for_somebody_to_decide() -> None:
    world = started(1, 1)
    world.change(image=GOOD)
    world.run_until("WillInterrupt")
    assert world.condition("Stalled")[0] == "False"
    world.run(120)  # longer than the deadline: what waits for a person is not given up
    assert world.condition("Progressing")[:2] == ("False", "WillInterrupt")
    assert world.condition("Stalled")[:2] == ("True", "WillInterrupt")
    assert "spec.rollout.interruption: Allow" in world.condition("Stalled")[2]
    assert world.condition("Available")[0] == "True"
    assert world.ready() == ("False", "WillInterrupt")
    assert world.least == 1
    assert ("WillInterrupt", True) in [event[0::2] for event in world.cluster.events]


@pytest.mark.parametrize("room", [True, False])
def test_it_goes_on_with_room_or_when_it_is_allowed(room: bool) -> None:
    world = started(1, 1)
    world.change(image=GOOD)
    world.run(120)
    if room:
        world.gpus = 2
    else:
        world.change(rollout=world.em["spec"]["rollout"] | {"interruption": "Allow"})
    world.run_until("Ready")
    assert (world.least, world.pods_with_image(GOOD)) == (1 if room else 0, 1)
    assert world.condition("Stalled")[0] == "False"


def test_an_outage_that_is_allowed_is_announced_first() -> None:
    world = started(1, 1, interruption="Allow", surgeWaitSeconds=0)
    world.change(image=GOOD)
    world.run_until("WillInterrupt")
    assert (world.least, world.condition("Stalled")[0]) == (1, "False")
    assert "nothing answers" in world.condition("Progressing")[2]
    world.run_until("Ready")
    assert (world.least, world.pods_with_image(GOOD)) == (0, 1)


def test_a_bad_template_on_a_full_cluster_is_rolled_back_and_one_pod_serves_throughout() -> None:
    world = started(2, 2, surgeWaitSeconds=10)
    world.change(image=BAD)
    world.run_until("RolledBack")
    world.run(60)
    assert world.least == 1
    assert (world.answering(), world.pods_with_image(BAD)) == (2, 0)
    assert world.condition("Progressing")[:2] == ("False", "RolledBack")


def test_a_bad_template_of_a_single_pod_is_rolled_back_without_another_wait() -> None:
    world = started(1, 1, surgeWaitSeconds=60, interruption="Allow")
    world.change(image=BAD)
    world.run_until("RolledBack")
    world.run(20)
    assert world.answering() == 1


def test_what_fits_nowhere_takes_no_pod_away() -> None:
    world = started(2, 2, surgeWaitSeconds=10)
    world.change(resources={"requests": {"cpu": "900"}})
    world.run_until("WaitingForRoom")
    world.run(60)
    assert "nor would a pod of before make any" in world.condition("Progressing")[2]
    world.run_until("RolledBack")
    assert world.least == 2


def test_surge_never_replaces() -> None:
    world = started(2, 2, surge="Surge")
    world.change(image=GOOD)
    world.run(60)
    assert (strategy(world), world.least) == ("Surge", 2)
    world.run_until("RolledBack")
    assert world.least == 2


def test_replace_takes_one_away_at_once() -> None:
    world = started(3, 2, surge="Replace")
    world.change(image=GOOD)
    world.run(3)
    assert (strategy(world), world.answering()) == ("Replace", 1)
    world.run_until("Ready")
    assert (world.least, world.pods_with_image(GOOD)) == (1, 2)


def test_replace_of_a_single_pod_waits_or_is_announced() -> None:
    world = started(2, 1, surge="Replace")
    world.change(image=GOOD)
    world.run(100)
    assert world.condition("Stalled")[:2] == ("True", "WillInterrupt")
    assert (world.least, world.pods_with_image(GOOD)) == (1, 0)
    world.change(rollout=world.em["spec"]["rollout"] | {"interruption": "Allow"})
    world.run_until("Ready")
    assert (world.least, world.pods_with_image(GOOD)) == (0, 1)


# --- another fingerprint: two sets, one Service


def changed(gpus: int, replicas: int, image: str | None = None, **rollout: Any) -> FullCluster:
    """A served model whose spec now names another one, which has been fetched."""
    world = started(gpus, replicas, **rollout)
    world.change(model=NEW, image=image)
    world.run(1)
    world.end_job(samples.ok(model=NEW["id"], fingerprint=samples.OTHER), well=True)
    world.run(1)
    return world


def test_with_room_for_both_the_old_set_stays_whole() -> None:
    world = changed(4, 2)
    world.run_until("Ready")
    assert (world.serving(), world.least) == ("cdcdcdcd", 2)


@pytest.mark.parametrize(
    ("replicas", "gpus", "least"), [(2, 2, 1), (3, 3, 1), (4, 4, 2), (4, 6, 3), (2, 3, 1)]
)
def test_without_room_the_old_set_gives_way_pod_by_pod(replicas: int, gpus: int, least: int) -> None:
    world = changed(gpus, replicas, surgeWaitSeconds=20)
    world.run_until("Ready")
    assert (world.serving(), world.least, world.answering()) == ("cdcdcdcd", least, replicas)
    assert world.names("Deployment") == ["minilm-cdcdcdcd"]
    world.settle()
    assert strategy(world) == "Surge"


def test_the_old_set_gives_way_no_further_than_what_was_given_is_used() -> None:
    world = changed(4, 4, surgeWaitSeconds=20)
    world.run_until("WaitingForRoom")
    world.run(20)
    assert world.cluster.find("Deployment", "minilm-abababab")["spec"]["replicas"] == 3
    world.run(GIVES_BACK)
    assert world.cluster.find("Deployment", "minilm-abababab")["spec"]["replicas"] == 3
    assert world.serving() == "abababab"


GIVES_BACK = 9
"""Seconds within which the room of the first pod is not yet put to use."""


def test_a_restart_of_the_operator_changes_nothing_while_a_set_gives_way() -> None:
    world = changed(3, 3, surgeWaitSeconds=20)
    for _ in range(150):
        world.restart_operator()
        world.run(1)
    assert (world.serving(), world.least, world.answering()) == ("cdcdcdcd", 1, 3)


def test_a_single_pod_of_another_model_waits_for_somebody_to_decide() -> None:
    world = changed(1, 1)
    world.run(120)
    assert world.condition("Stalled")[:2] == ("True", "WillInterrupt")
    assert (world.serving(), world.least) == ("abababab", 1)
    world.change(rollout=world.em["spec"]["rollout"] | {"interruption": "Allow"})
    world.run_until("Ready")
    assert (world.serving(), world.answering()) == ("cdcdcdcd", 1)


def test_a_set_that_does_not_become_ready_gives_the_room_back() -> None:
    world = changed(2, 2, BAD, surgeWaitSeconds=10)
    world.run_until("RolledBack")
    world.run(60)
    assert (world.serving(), world.answering(), world.least) == ("abababab", 2, 1)
    assert world.names("Deployment") == ["minilm-abababab"]
    assert world.condition("Stalled")[:2] == ("True", "RolledBack")
    world.restart_operator()
    world.run(100)
    assert world.names("Deployment") == ["minilm-abababab"]
    world.change(image=None)
    world.run_until("Ready")
    assert (world.serving(), world.answering()) == ("cdcdcdcd", 2)


def test_back_to_the_model_of_before_gives_the_room_back() -> None:
    world = changed(2, 2, surgeWaitSeconds=10)
    world.run_until("WaitingForRoom")
    world.run(15)
    world.change(model=samples.model_body()["spec"]["model"])
    world.run_until("Ready")
    assert (world.serving(), world.answering(), world.least) == ("abababab", 2, 1)
    assert world.names("Deployment") == ["minilm-abababab"]


def test_a_suspended_resource_makes_no_room() -> None:
    world = changed(2, 2, surgeWaitSeconds=10)
    world.change(suspend=True)
    world.run(60)
    assert world.answering() == 0
    world.change(suspend=False)
    world.run_until("Ready")
    assert world.serving() == "cdcdcdcd"
