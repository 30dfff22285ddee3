"""The reconcile and whose the claim is: one that survives its resource, one that somebody else has made."""

from typing import Any

import pytest

from embedding_operator import naming
from tests.unit.operator import samples
from tests.unit.operator.world import World

CLAIM = "PersistentVolumeClaim"


def deleted_and_made_again(world: World, **spec: Any) -> None:
    """The garbage collector takes what the resource owned; then there is another one of its name."""
    for body in [*world.cluster.objects.values()]:
        if body["kind"] == "EmbeddingModel" or body["metadata"].get("ownerReferences"):
            world.cluster.remove(body["kind"], body["metadata"]["name"])
    world.restart_operator()
    again = samples.model_body(**spec)
    again["metadata"]["uid"] = "another-uid"
    world.cluster.put(again)


def test_a_retained_claim_survives_and_is_used_again_by_the_next_of_its_name() -> None:
    world = World(cache={"retention": "Retain"})
    world.serve()
    before = world.cluster.find(CLAIM)["metadata"]["uid"]
    world.clock.advance(60)
    deleted_and_made_again(world, cache={"retention": "Retain"})
    assert world.cluster.find(CLAIM)["metadata"]["uid"] == before
    world.serve()
    assert world.cluster.find(CLAIM)["metadata"]["uid"] == before
    assert "ownerReferences" not in world.cluster.find(CLAIM)["metadata"]


def test_a_retained_claim_that_the_watches_have_not_shown_is_no_strangers() -> None:
    world = World(cache={"retention": "Retain"})
    world.serve()
    deleted_and_made_again(world, cache={"retention": "Retain"})
    world.cluster.hidden.add(world.cluster.find(CLAIM)["metadata"]["uid"])
    world.reconcile()
    assert world.condition("Accepted")[0] == "True"
    assert world.job()


def test_a_retained_claim_goes_with_the_next_resource_that_says_delete() -> None:
    world = World(cache={"retention": "Retain"})
    world.serve()
    deleted_and_made_again(world)
    world.settle()
    (owner,) = world.cluster.find(CLAIM)["metadata"]["ownerReferences"]
    assert owner["uid"] == "another-uid"


@pytest.mark.parametrize(("first", "then"), [("Delete", "Retain"), ("Retain", "Delete")])
def test_retention_can_be_changed_while_it_serves(first: str, then: str) -> None:
    world = World(cache={"retention": first})
    world.serve()
    world.change(cache={"size": "5Gi", "accessMode": "ReadWriteOnce", "retention": then})
    world.settle()
    owned = "ownerReferences" in world.cluster.find(CLAIM)["metadata"]
    assert owned == (then == "Delete")
    assert world.ready() == ("True", "Ready")


def test_a_retained_claim_of_the_model_before_stays() -> None:
    world = World(cache={"retention": "Retain"})
    world.serve()
    world.change(model={"id": "another/one", "revision": "main", "task": "auto"})
    world.prefetched(model="another/one", fingerprint=samples.OTHER)
    world.settle()
    world.roll(f"minilm-{samples.OTHER[:8]}")
    world.settle()
    world.clock.advance(60)
    world.settle()
    assert world.serving() == samples.OTHER[:8]
    assert len(world.names(CLAIM)) == 2


@pytest.mark.parametrize("mark", ["labels", "annotations"])
def test_a_claim_that_only_looks_like_a_retained_one_is_never_touched(mark: str) -> None:
    world = World(cache={"retention": "Retain"})
    world.serve()
    world.cluster.find(CLAIM)["metadata"][mark].clear()
    deleted_and_made_again(world, cache={"retention": "Retain"})
    world.reconcile()
    assert world.condition("Accepted")[:2] == ("False", "NameConflict")


# --- a claim that the spec names


def test_a_claim_of_somebody_else_is_filled_and_served_from_and_never_written() -> None:
    world = World(cache={"claimName": "models"})
    world.serve()
    assert world.cluster.all(CLAIM) == []
    for kind in ("Job", "Deployment"):
        volumes = world.cluster.find(kind)["spec"]["template"]["spec"]["volumes"]
        assert volumes[0]["persistentVolumeClaim"]["claimName"] == "models"
    assert not any(kind == CLAIM and verb != "get" for verb, kind, _ in world.cluster.requests)


def test_resources_that_share_a_claim_have_a_job_each() -> None:
    shared = {"claimName": "models"}
    one, other = samples.model("one", cache=shared), samples.model("other", cache=shared)
    assert naming.claim(one) == naming.claim(other) == "models"
    assert naming.job(one) != naming.job(other)
    assert naming.job(one) != naming.job(samples.model("one"))


def test_a_claim_that_is_not_there_is_told_by_its_name() -> None:
    world = World(cache={"claimName": "models"})
    world.reconcile()
    words = '0/3 nodes are available: persistentvolumeclaim "models" not found.'
    world.job_pod(phase="Pending", conditions=samples.unscheduled(words))
    world.reconcile()
    assert world.ready() == ("False", "MissingClaim")
    assert "claim models, which spec.cache.claimName names" in world.condition("Cached")[2]


def test_what_serves_from_a_claim_of_somebody_else_goes_on_without_its_job() -> None:
    world = World(cache={"claimName": "models"})
    world.serve()
    for kind, name in (
        ("Job", world.job()["metadata"]["name"]),
        ("Pod", f"{world.job()['metadata']['name']}-0"),
    ):
        world.cluster.remove(kind, name)
    world.settle()
    assert world.job()
    assert world.condition("Cached")[:2] == ("True", "Checking")
    assert world.ready() == ("True", "Ready")
