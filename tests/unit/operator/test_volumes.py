"""A volume that one node at a time can use, and several pods."""

from typing import Any

import pytest

from embedding_operator import naming
from embedding_operator.api import EmbeddingModel
from embedding_operator.cache import volumes
from tests.unit.operator import samples
from tests.unit.operator.world import World

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
OWN_RULES = {"podAffinity": {REQUIRED: [{"topologyKey": "kubernetes.io/hostname"}]}}
MANY = {"accessMode": "ReadWriteMany"}


def using(access: str, **spec: Any) -> EmbeddingModel:
    """A resource whose claim exists and can be used like this."""
    found = samples.model(cache={"claimName": "models"}, **spec)
    return volumes.as_it_is(found, claim(access))


def claim(*modes: str) -> dict[str, Any]:
    return {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models"},
        "spec": {"accessModes": list(modes)},
    }


@pytest.mark.parametrize(
    ("modes", "access"),
    [
        (["ReadWriteOnce"], "ReadWriteOnce"),
        (["ReadWriteOnce", "ReadOnlyMany"], "ReadOnlyMany"),
        (["ReadWriteOnce", "ReadWriteMany"], "ReadWriteMany"),
        (["ReadWriteOncePod"], "ReadWriteOncePod"),
    ],
)
def test_a_claim_that_exists_is_used_as_widely_as_it_says(modes: list[str], access: str) -> None:
    em = samples.model(cache={"claimName": "models"})
    assert volumes.as_it_is(em, claim(*modes)).cache.volume_access == access
    assert volumes.as_it_is(em, None).cache.volume_access == "ReadWriteOnce"


@pytest.mark.parametrize(
    ("em", "together", "words"),
    [
        (samples.model(), True, "all 2 pods share the one node"),
        (samples.model(replicas=1), True, ""),
        (samples.model(cache=MANY), False, ""),
        (samples.model(scheduling={"affinity": OWN_RULES}), False, "has rules of its own"),
        (using("ReadWriteOnce"), True, "claim models is ReadWriteOnce"),
        (using("ReadOnlyMany"), False, ""),
        (using("ReadWriteOncePod"), True, "one pod can use it, not 2; name another claim"),
    ],
)
def test_pods_of_one_node_are_held_together_and_told(em: EmbeddingModel, together: bool, words: str) -> None:
    assert volumes.is_held_together(em) == together
    assert words in volumes.note(em)
    assert bool(words) == bool(volumes.note(em))


def test_a_name_that_is_no_label_value_is_shortened() -> None:
    assert naming.claim_label("models") == "models"
    assert len(naming.claim_label("m" * 200)) == 8


def test_it_is_said_before_anything_runs_and_a_single_pod_says_nothing() -> None:
    world = World()
    world.reconcile()
    status, reason, message = world.condition("Accepted")
    assert (status, reason) == ("True", "OneNode")
    assert "spec.cache.accessMode: ReadWriteMany" in message
    world.change(replicas=1)
    world.reconcile()
    assert world.condition("Accepted")[1] == "Accepted"


def test_a_scale_up_does_not_change_the_pods() -> None:
    world = World(replicas=1)
    world.serve()
    template = world.cluster.find("Deployment")["spec"]["template"]
    world.change(replicas=3)
    world.settle()
    assert world.cluster.find("Deployment")["spec"]["template"] == template
    assert world.cluster.find("Deployment")["spec"]["replicas"] == 3


def test_a_claim_of_somebody_else_is_looked_at_for_how_it_can_be_used() -> None:
    world = World(cache={"claimName": "models"})
    world.cluster.put(claim("ReadWriteMany"))
    world.serve()
    assert world.condition("Accepted")[1] == "Accepted"
    pod = world.cluster.find("Deployment")["spec"]["template"]["spec"]
    assert "affinity" not in pod
    assert pod["topologySpreadConstraints"]


def test_an_unschedulable_pod_is_told_with_what_binds_it() -> None:
    world = World()
    world.serve()
    words = "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod affinity rules."
    world.server_pod("minilm-abababab-x", phase="Pending", conditions=samples.unscheduled(words))
    world.reconcile()
    message = world.condition("Scheduled")[2]
    assert "Insufficient cpu" in message
    assert "share the one node" in message


def test_a_pod_beyond_the_wanted_number_loosens_no_budget() -> None:
    world = World(replicas=1)
    world.serve()
    world.server_pod("minilm-abababab-old", phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    world.server_pod("minilm-abababab-x", phase="Pending", conditions=samples.unscheduled("no room"))
    world.settle()
    assert world.cluster.find("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize(("cache", "away"), [({}, "100%"), (MANY, 1)])
def test_a_drain_that_nothing_can_follow_takes_all_pods(cache: dict[str, str], away: object) -> None:
    world = World(cache=cache)
    world.serve()
    assert world.cluster.find("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    unscheduled = samples.unscheduled("0/3 nodes are available: 1 node(s) were unschedulable.")
    world.server_pod("minilm-abababab-x", phase="Pending", conditions=unscheduled)
    world.settle()
    assert world.cluster.find("PodDisruptionBudget")["spec"]["maxUnavailable"] == away
    world.cluster.remove("Pod", "minilm-abababab-x")
    world.settle()
    assert world.cluster.find("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
