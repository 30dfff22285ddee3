"""A claim that is there, and a spec that changes: it grows where it may, else another one is made."""

from typing import Any

import pytest

from embedding_operator import naming
from embedding_operator.cache import sizing
from embedding_operator.errors import ForbiddenError, RejectedError
from tests.unit.operator import samples
from tests.unit.operator.world import World

CLAIM = "PersistentVolumeClaim"
NO_EXPANSION = ForbiddenError("the storageclass must support resize", status=403)


def cache(**changes: Any) -> dict[str, Any]:
    return {"size": "5Gi", "accessMode": "ReadWriteOnce"} | changes


def requested(world: World, name: str | None = None) -> str:
    found: str = world.cluster.find(CLAIM, name)["spec"]["resources"]["requests"]["storage"]
    return found


def patches(world: World) -> int:
    return sum(verb == "apply" and kind == CLAIM for verb, kind, _ in world.cluster.writes())


def told(world: World) -> str:
    return world.condition("Cached")[2]


# --- its size


def test_a_larger_size_is_asked_of_the_same_claim() -> None:
    world = World()
    world.serve()
    world.change(cache=cache(size="9Gi"))
    world.settle()
    assert requested(world) == "9Gi"
    assert world.em["status"]["cache"]["size"] == "9Gi"
    assert world.ready() == ("True", "Ready")


def test_a_volume_that_has_not_grown_yet_is_told_until_it_has() -> None:
    world = World()
    world.serve()
    world.change(cache=cache(size="9Gi"))
    world.cluster.find(CLAIM)["status"] = {"capacity": {"storage": "5Gi"}}
    world.settle()
    assert "is to grow to 9Gi and its volume has 5Gi" in told(world)
    assert world.ready() == ("True", "Ready")
    world.cluster.find(CLAIM)["status"] = {"capacity": {"storage": "9216Mi"}}
    world.settle()
    assert "grow" not in told(world)


@pytest.mark.parametrize("status", [{}, {"capacity": {"storage": "10Gi"}}])
def test_nothing_is_said_of_a_volume_that_is_large_enough(status: dict[str, Any]) -> None:
    claim = {"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": "9Gi"}}}}
    assert sizing.growing(claim | {"status": status}) == ""


@pytest.mark.parametrize("error", [NO_EXPANSION, RejectedError("only expandable classes", status=422)])
def test_a_claim_that_cannot_grow_stops_nothing(error: Any) -> None:
    world = World()
    world.serve()
    world.change(cache=cache(size="9Gi"))
    world.cluster.refuse[CLAIM] = error
    world.reconcile()
    assert world.ready() == ("True", "Ready")
    assert f"keeps its size, 5Gi: {error.message}" in told(world)
    assert "Another spec.cache.storageClassName makes another claim" in told(world)
    size = world.em["status"]["cache"]
    assert (size["size"], "9Gi is wanted" in size["sizeReason"]) == ("5Gi", True)


def test_a_refusal_is_not_asked_for_at_every_look_and_not_for_ever() -> None:
    world = World()
    world.serve()
    world.change(cache=cache(size="9Gi"))
    world.cluster.refuse[CLAIM] = NO_EXPANSION
    world.reconcile()
    world.cluster.writes()
    world.reconcile()
    assert patches(world) == 0
    world.clock.advance(601)
    world.reconcile()
    assert patches(world) == 1
    world.cluster.refuse.clear()
    world.change(cache=cache(size="8Gi"))  # another size is another question
    world.settle()
    assert requested(world) == "8Gi"
    assert "keeps" not in told(world)


def test_what_else_is_wanted_of_a_claim_does_not_wait_for_its_size() -> None:
    world = World()
    world.serve()
    apply = world.cluster.apply

    async def no_growth(body: Any, *, manager: str) -> Any:
        if body["kind"] == CLAIM and body["spec"]["resources"]["requests"]["storage"] == "9Gi":
            raise NO_EXPANSION
        return await apply(body, manager=manager)

    world.cluster.apply = no_growth  # type: ignore[method-assign]
    world.change(cache=cache(size="9Gi", retention="Retain"))
    world.settle()
    assert "ownerReferences" not in world.cluster.find(CLAIM)["metadata"]
    assert requested(world) == "5Gi"
    assert "keeps its size" in told(world)


def test_a_smaller_size_leaves_the_claim_as_it_is() -> None:
    world = World()
    world.serve()
    world.change(cache=cache(size="1Gi"))
    world.settle()
    assert requested(world) == "5Gi"


# --- what nobody can change


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"storageClassName": "fast"}, "whose storageClassName cannot be changed"),
        ({"accessMode": "ReadWriteMany"}, "whose accessModes cannot be changed"),
        (
            {"storageClassName": "fast", "accessMode": "ReadWriteMany"},
            "whose storageClassName and accessModes cannot be changed",
        ),
    ],
)
def test_another_claim_is_filled_beside_the_one_that_is_served_from(
    changes: dict[str, Any], words: str
) -> None:
    world = World()
    world.serve()
    (before,) = world.names(CLAIM)
    world.change(cache=cache(**changes))
    world.reconcile()
    (after,) = set(world.names(CLAIM)) - {before}
    assert f"Claim {after} takes the place of {before}, {words}" in told(world)
    assert world.condition("Available")[0] == "True"
    assert mounted(world) == before
    world.prefetched()
    world.settle()
    assert mounted(world) == after
    assert before in told(world)
    world.roll()
    for _ in range(3):
        world.clock.advance(60)
        world.settle()
    assert world.names(CLAIM) == [after]
    assert before not in told(world)
    assert world.ready() == ("True", "Ready")


def mounted(world: World) -> str:
    volumes = world.cluster.find("Deployment")["spec"]["template"]["spec"]["volumes"]
    found: str = volumes[0]["persistentVolumeClaim"]["claimName"]
    return found


def test_back_from_a_class_to_the_default_is_told_too() -> None:
    world = World(cache={"storageClassName": "fast"})
    world.serve()
    world.change(cache=cache())
    world.reconcile()
    assert "whose storageClassName cannot be changed" in told(world)


def test_the_class_that_the_api_server_has_filled_in_is_no_change() -> None:
    world = World()
    world.serve()
    world.cluster.find(CLAIM)["spec"]["storageClassName"] = "standard"
    world.change(model=world.em["spec"]["model"] | {"id": "another/one"})
    world.reconcile()
    assert len(world.names(CLAIM)) == 2
    assert "takes the place" not in told(world)


def test_a_claim_of_somebody_else_takes_nobodys_place() -> None:
    world = World()
    world.serve()
    world.change(cache=cache(claimName="models"))
    world.reconcile()
    assert "takes the place" not in told(world)
    assert naming.claim(samples.model(cache={"claimName": "models"})) == "models"
