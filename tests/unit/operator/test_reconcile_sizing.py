"""The reconcile where the spec says no cache size: the hub is asked first, once."""

from typing import Any

from embedding_operator import api, naming
from tests.unit.operator import samples
from tests.unit.operator.world import World

OPEN = {"size": None, "accessMode": "ReadWriteOnce"}
UNREACHABLE = samples.error("HubUnreachable", "cannot connect to http://hub.example", permanent=False)
DENIED = samples.error("AccessDenied", "401: the hub does not accept the token", permanent=True)


def asking(world: World) -> dict[str, Any]:
    return world.cluster.find("Job", naming.sizing_job(api.parse(world.em)))


def measured(**spec: Any) -> World:
    world = World(cache=OPEN, **spec)
    world.settle()
    world.end_job(samples.resolved(bytes=15 * 10**9), well=True, job=asking(world))
    world.settle()
    return world


def storage(world: World) -> str:
    found: str = world.cluster.find("PersistentVolumeClaim")["spec"]["resources"]["requests"]["storage"]
    return found


def test_nothing_is_made_before_the_hub_has_said_how_large_the_model_is() -> None:
    world = World(cache=OPEN)
    world.settle()
    assert world.names("Job") == [naming.sizing_job(samples.model())]
    assert world.names("PersistentVolumeClaim") == []
    assert asking(world)["spec"]["template"]["spec"]["containers"][0]["args"] == ["prefetch", "--resolve"]
    assert world.ready() == ("False", "Pending")
    assert "size" not in world.em["status"]["cache"]


def test_the_claim_is_as_large_as_the_files_need_and_the_status_says_why() -> None:
    world = measured()
    assert storage(world) == "35Gi"
    assert world.names("Job") == [naming.job(samples.model())]  # the question has done its work
    found = world.em["status"]["cache"]
    assert (found["size"], found["sizeReason"]) == (
        "35Gi", "the files' 15000.0 MB times 2.5, for the graph that is made of them, in whole Gi"
    )  # fmt: skip


def test_it_is_asked_once_and_the_size_stays() -> None:
    world = measured()
    world.end_job(samples.ok(), well=True)
    world.settle()
    world.roll()
    world.settle()
    assert world.ready() == ("True", "Ready")
    world.restart_operator()
    world.reconcile(fresh=True)
    assert world.cluster.writes() == []
    assert world.em["status"]["cache"]["size"] == "35Gi"


def test_a_size_that_is_written_later_counts() -> None:
    world = measured()
    world.change(cache={"size": "40Gi", "accessMode": "ReadWriteOnce"})
    world.settle()
    assert storage(world) == "40Gi"
    assert world.em["status"]["cache"]["sizeReason"] == "spec.cache.size"
    world.change(cache=OPEN)
    world.settle()
    assert storage(world) == "40Gi"
    assert world.em["status"]["cache"]["sizeReason"] == "the claim's own; spec.cache.size says none"


def test_a_size_that_is_written_while_the_hub_is_asked_ends_the_question() -> None:
    world = World(cache=OPEN)
    world.settle()
    world.change(cache={"size": "2Gi", "accessMode": "ReadWriteOnce"})
    world.settle()
    assert storage(world) == "2Gi"
    assert world.names("Job") == [naming.job(samples.model())]


def test_a_hub_that_cannot_be_asked_is_told_and_asked_again_as_for_a_download() -> None:
    world = World(cache=OPEN)
    world.settle()
    pauses = []
    for _ in range(3):
        job = asking(world)
        world.end_job(UNREACHABLE, well=False, job=job)
        pauses.append(world.reconcile().look_again)
        assert world.condition("Cached")[:2] == ("False", "HubUnreachable")
        assert "the next one starts at" in world.condition("Cached")[2]
        world.clock.advance(pauses[-1] or 0)
        world.reconcile()
        assert asking(world)["metadata"]["uid"] != job["metadata"]["uid"]
    assert pauses == [60, 120, 240]


def test_what_somebody_has_to_mend_stands_while_it_is_asked_again() -> None:
    world = World(cache=OPEN)
    world.settle()
    world.end_job(DENIED, well=False, job=asking(world))
    world.settle()
    assert world.ready() == ("False", "AccessDenied")
    assert naming.sizing_job(samples.model()) in world.condition("Cached")[2]
    world.clock.advance(600)
    events = len(world.cluster.events)
    world.settle()
    assert world.ready() == ("False", "AccessDenied")
    assert len(world.cluster.events) == events
    world.end_job(samples.resolved(), well=True, suffix="1", job=asking(world))
    world.settle()
    assert storage(world) == "1Gi"


def test_a_changed_way_to_the_hub_asks_again_at_once() -> None:
    world = World(cache=OPEN)
    world.settle()
    world.end_job(DENIED, well=False, job=asking(world))
    world.settle()
    uid = asking(world)["metadata"]["uid"]
    world.em["spec"]["model"]["source"] = {"hub": {"tokenSecretRef": {"name": "hub", "key": "token"}}}
    world.settle()
    assert asking(world)["metadata"]["uid"] != uid


def test_a_suspended_resource_asks_nobody() -> None:
    world = World(cache=OPEN, suspend=True)
    world.settle()
    assert world.names("Job") == []
    assert world.condition("Cached")[:2] == ("False", "Suspended")


def test_a_paused_resource_asks_nobody() -> None:
    world = World(cache=OPEN)
    world.em["metadata"]["annotations"] = {naming.PAUSED_ANNOTATION: "true"}
    world.settle()
    assert world.names("Job") == []


def test_a_lagging_watch_asks_once() -> None:
    world = World(cache=OPEN)
    world.reconcile()
    uid = asking(world)["metadata"]["uid"]
    world.cluster.hidden.add(uid)
    world.reconcile()
    assert asking(world)["metadata"]["uid"] == uid
    world.cluster.hidden.clear()
    world.end_job(samples.resolved(), well=True, job=asking(world))
    world.reconcile()
    claim = world.cluster.find("PersistentVolumeClaim")["metadata"]["uid"]
    world.cluster.hidden.add(claim)
    world.reconcile()  # the claim is not shown yet: the answer has to be there still
    world.reconcile()
    assert world.cluster.find("PersistentVolumeClaim")["metadata"]["uid"] == claim
    assert naming.sizing_job(samples.model()) in world.names("Job")
    world.cluster.hidden.clear()
    world.settle()
    assert world.names("Job") == [naming.job(samples.model())]


def test_a_retained_claim_is_taken_as_it_is() -> None:
    world = World(cache=OPEN | {"retention": "Retain"})
    world.settle()
    world.end_job(samples.resolved(bytes=15 * 10**9), well=True, job=asking(world))
    world.settle()
    world.end_job(samples.ok(), well=True)
    world.settle()
    body = world.em
    for kind in ("Job", "Deployment", "ConfigMap", "Pod"):
        for name in world.names(kind):
            world.cluster.remove(kind, name)
    world.cluster.put(body | {"metadata": {"name": "minilm", "uid": "another", "generation": 1}})
    world.settle()
    assert naming.sizing_job(samples.model()) not in world.names("Job")
    assert (storage(world), world.em["status"]["cache"]["size"]) == ("35Gi", "35Gi")
