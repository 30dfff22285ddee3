"""The reconcile and the ConfigMaps: there before what mounts them, gone when nothing does."""

from typing import Any

from embedding_operator.api import parse
from embedding_operator.resources import options
from tests.unit.operator import samples
from tests.unit.operator.world import World

MODEL = {"id": "sentence-transformers/all-MiniLM-L6-v2", "revision": "main", "task": "auto"}
SHAPED = MODEL | {"pooling": "cls"}


def mounted(body: dict[str, Any]) -> list[str]:
    volumes = body["spec"]["template"]["spec"]["volumes"]
    return [volume["configMap"]["name"] for volume in volumes if "configMap" in volume]


def fetching(world: World) -> str:
    config_map = options.fetching(parse(world.em))
    assert config_map is not None
    name: str = config_map["metadata"]["name"]
    return name


def test_a_set_has_the_config_map_that_it_mounts() -> None:
    world = World()
    world.serve()
    assert world.names("ConfigMap") == mounted(world.cluster.find("Deployment"))


def test_a_config_map_that_somebody_removes_comes_back() -> None:
    world = World()
    world.serve()
    (name,) = world.names("ConfigMap")
    world.cluster.remove("ConfigMap", name)
    world.settle()
    assert world.names("ConfigMap") == [name]


def test_served_names_roll_the_set_and_the_former_config_map_goes_when_no_template_names_it() -> None:
    world = World()
    world.serve()
    (before,) = world.names("ConfigMap")
    world.change(servedNames=["other"])
    world.settle()
    (after,) = mounted(world.cluster.find("Deployment"))
    assert world.names("Deployment") == ["minilm-abababab"]
    assert after != before
    assert {before, after} <= set(world.names("ConfigMap"))  # a roll back would need the former one
    for name in ("third", "fourth", "fifth", "sixth"):
        world.roll()
        world.settle()
        world.change(servedNames=[name])
        world.settle()
    world.roll()
    world.settle()
    assert before not in world.names("ConfigMap")
    assert set(mounted(world.cluster.find("Deployment"))) <= set(world.names("ConfigMap"))


def test_changed_options_are_read_by_a_job_of_their_own_from_the_same_claim() -> None:
    world = World()
    world.serve()
    (serving,) = world.names("ConfigMap")
    world.change(model=SHAPED)
    world.settle()
    assert len(world.names("PersistentVolumeClaim")) == 1
    assert mounted(world.job()) == [fetching(world)]
    assert mounted(world.cluster.find("Deployment", "minilm-abababab")) == [serving]
    world.end_job(samples.ok(fingerprint=samples.OTHER), well=True)
    world.settle()
    (new,) = mounted(world.cluster.find("Deployment", "minilm-cdcdcdcd"))
    assert '"pooling": "cls"' in world.cluster.find("ConfigMap", new)["data"][options.FILE]
    assert world.names("ConfigMap") == sorted({serving, new, fetching(world)})
    world.roll("minilm-cdcdcdcd")
    world.settle()
    world.clock.advance(10)
    world.settle()
    assert world.ready() == ("True", "Ready")
    assert world.names("ConfigMap") == sorted({new, fetching(world)})


def test_a_pod_that_is_still_there_keeps_its_config_map() -> None:
    world = World()
    world.serve()
    (before,) = world.names("ConfigMap")
    world.server_pod("old")
    world.cluster.find("Pod", "old")["spec"]["volumes"] = [
        {"name": "models-config", "configMap": {"name": before}}
    ]
    for name in ("a", "b", "c", "d", "e"):
        world.change(servedNames=[name])
        world.settle()
        world.roll()
        world.settle()
    assert before in world.names("ConfigMap")
