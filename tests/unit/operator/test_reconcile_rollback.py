"""The reconcile when new pods do not become ready: the last good template comes back by itself."""

from typing import Any

from embedding_operator import naming
from embedding_operator.api import parse
from tests.unit.operator import samples
from tests.unit.operator.world import World

BAD = "registry.example/no-such-image:1"


def image(world: World) -> str:
    found: str = world.cluster.find("Deployment")["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


def overdue(world: World) -> None:
    """The new pod cannot start, and the Deployment's controller has waited for long enough."""
    waiting = {"waiting": {"reason": "ImagePullBackOff"}}
    world.server_pod(
        "minilm-abababab-new",
        phase="Pending",
        containerStatuses=samples.container_status(naming.CONTAINER, waiting),
    )
    world.roll()
    world.cluster.find("Deployment")["status"] |= {
        "replicas": 3,
        "updatedReplicas": 1,
        "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}],
    }


def rolled_back() -> World:
    world = World(rollout={"progressDeadlineSeconds": 60})
    world.serve()
    world.change(image=BAD)
    world.settle()
    assert image(world) == BAD
    overdue(world)
    world.settle()
    return world


def conditions(world: World) -> dict[str, tuple[str, str]]:
    return {kind: world.condition(kind)[:2] for kind in ("Available", "Progressing", "Stalled", "Ready")}


def test_a_template_that_is_good_is_kept_and_told() -> None:
    world = World()
    world.serve()
    (revision,) = world.cluster.all("ControllerRevision")
    template = world.cluster.find("Deployment")["spec"]["template"]
    (config_map,) = world.cluster.all("ConfigMap")
    assert revision["data"] == {"template": template, "options": config_map["data"]["models.json"]}
    (owner,) = revision["metadata"]["ownerReferences"]
    assert owner["uid"] == "owner-uid"
    digest = world.em["status"]["rollout"]["current"]
    assert world.em["status"]["rollout"] == {
        "current": digest,
        "lastGood": digest,
        "strategy": "Surge",
    }
    assert revision["metadata"]["name"] == f"minilm-abababab-{digest}"
    assert world.condition("Stalled")[:2] == ("False", "NotStalled")


def test_a_template_that_is_late_is_rolled_back_and_the_condition_says_why() -> None:
    world = rolled_back()
    assert image(world) == "embedding-runtime:0.1.0-cpu"
    assert conditions(world) == {
        "Available": ("True", "Available"),
        "Progressing": ("False", "RolledBack"),
        "Stalled": ("True", "RolledBack"),
        "Ready": ("False", "RolledBack"),
    }
    words = world.condition("Progressing")[2]
    for part in ("within 60 s", "ImagePullBackOff", "cannot be pulled", naming.RETRY_ANNOTATION):
        assert part in words
    rollout = world.em["status"]["rollout"]
    assert rollout["current"] == rollout["lastGood"] != rollout["failed"]
    assert world.cluster.events[-1][0::2] == ("RolledBack", True)


def test_it_stays_rolled_back_when_the_pods_are_gone_and_the_operator_is_another() -> None:
    world = rolled_back()
    world.cluster.remove("Pod", "minilm-abababab-new")
    world.roll()
    world.settle()
    world.restart_operator()
    world.settle()
    assert image(world) == "embedding-runtime:0.1.0-cpu"
    assert conditions(world)["Stalled"] == ("True", "RolledBack")
    assert "ImagePullBackOff" in world.condition("Ready")[2]


def test_a_deployment_deleted_while_rolled_back_comes_back_with_the_good_template() -> None:
    world = rolled_back()
    world.cluster.remove("Deployment", "minilm-abababab")
    world.reconcile()
    assert image(world) == "embedding-runtime:0.1.0-cpu"


def test_it_is_tried_again_when_asked_and_rolled_back_again() -> None:
    world = rolled_back()
    world.em["metadata"]["annotations"] = {naming.RETRY_ANNOTATION: "1"}
    world.settle()
    assert image(world) == BAD
    assert conditions(world)["Stalled"] == ("False", "NotStalled")
    overdue(world)
    world.settle()
    assert image(world) == "embedding-runtime:0.1.0-cpu"
    world.em["metadata"]["annotations"] = {naming.RETRY_ANNOTATION: "2"}
    world.settle()
    world.cluster.remove("Pod", "minilm-abababab-new")
    world.roll()
    world.settle()
    assert world.ready() == ("True", "Ready")
    assert image(world) == BAD
    assert "failed" not in world.em["status"]["rollout"]


def test_a_corrected_spec_is_rolled_out() -> None:
    world = rolled_back()
    world.change(image="registry.example/good:2")
    world.settle()
    assert image(world) == "registry.example/good:2"
    world.cluster.remove("Pod", "minilm-abababab-new")
    world.roll()
    world.settle()
    assert world.ready() == ("True", "Ready")
    assert len(world.cluster.all("ControllerRevision")) == 2  # what failed is not kept


def test_scaling_reaches_pods_that_were_rolled_back() -> None:
    world = rolled_back()
    world.change(replicas=5)
    world.settle()
    assert world.cluster.find("Deployment")["spec"]["replicas"] == 5
    assert image(world) == "embedding-runtime:0.1.0-cpu"
    assert conditions(world)["Stalled"] == ("True", "RolledBack")


def test_a_first_version_that_is_late_stays_and_is_stalled() -> None:
    world = World()
    world.prefetched()
    world.settle()
    overdue(world)
    world.cluster.find("Deployment")["status"] |= {"readyReplicas": 0, "availableReplicas": 0}
    world.settle()
    assert world.cluster.all("ControllerRevision") == []
    assert conditions(world) == {
        "Available": ("False", "ImagePullBackOff"),
        "Progressing": ("False", "ProgressDeadlineExceeded"),
        "Stalled": ("True", "ProgressDeadlineExceeded"),
        "Ready": ("False", "ImagePullBackOff"),
    }


def test_three_good_templates_are_kept() -> None:
    world = World()
    world.serve()
    for serial in range(4):
        world.change(image=f"registry.example/good:{serial}")
        world.settle()
        world.roll()
        world.settle()
    assert len(world.cluster.all("ControllerRevision")) == 3
    numbers = sorted(body["revision"] for body in world.cluster.all("ControllerRevision"))
    assert numbers == [3, 4, 5]


def test_a_set_that_the_spec_no_longer_asks_for_is_not_rolled() -> None:
    world = World()
    world.serve()
    world.change(model={"id": "BAAI/bge-small-en-v1.5", "revision": "main", "task": "auto"}, image="mine:1")
    world.settle()
    assert image(world) == "embedding-runtime:0.1.0-cpu"


def test_the_claim_of_the_last_good_template_is_kept_until_another_is_good() -> None:
    world = World()
    world.serve()
    claim = world.names("PersistentVolumeClaim")[0]
    world.change(model={**world.em["spec"]["model"], "revision": "v1.0"})
    world.settle()
    world.end_job(samples.ok(commit="d" * 40), well=True)
    world.settle()
    assert claim in world.names("PersistentVolumeClaim")
    overdue(world)
    world.settle()
    volumes: list[dict[str, Any]] = world.cluster.find("Deployment")["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["persistentVolumeClaim"]["claimName"] == claim
    assert naming.claim(parse(world.em)) != claim


def test_a_deleted_revision_is_kept_again() -> None:
    world = World()
    world.serve()
    before = world.names("ControllerRevision")
    world.cluster.remove("ControllerRevision", before[0])
    world.reconcile()
    assert world.names("ControllerRevision") == before


def test_a_permanent_failure_of_the_cache_is_stalled_too() -> None:
    world = World()
    world.reconcile()
    world.end_job(samples.error("ModelNotFound", "404", permanent=True), well=False)
    world.settle()
    assert world.condition("Stalled")[:2] == ("True", "ModelNotFound")
    assert world.ready() == ("False", "ModelNotFound")


def test_a_paused_resource_is_not_rolled_back() -> None:
    world = World()
    world.serve()
    world.change(image=BAD)
    world.settle()
    world.em["metadata"]["annotations"] = {naming.PAUSED_ANNOTATION: "true"}
    overdue(world)
    world.reconcile()
    assert image(world) == BAD
    assert world.condition("Stalled")[:2] == ("False", "NotStalled")
    del world.em["metadata"]["annotations"][naming.PAUSED_ANNOTATION]
    world.settle()
    assert image(world) == "embedding-runtime:0.1.0-cpu"


def mounted(world: World) -> str:
    volumes = world.cluster.find("Deployment")["spec"]["template"]["spec"]["volumes"]
    (name,) = [volume["configMap"]["name"] for volume in volumes if "configMap" in volume]
    return str(name)


def test_the_settings_of_a_template_that_came_back_are_made_again_when_somebody_deletes_them() -> None:
    world = World(rollout={"progressDeadlineSeconds": 60})
    world.serve()
    before = mounted(world)
    held = world.cluster.find("ConfigMap", before)["data"]
    world.change(image=BAD, servedNames=["another"])
    world.settle()
    assert mounted(world) != before
    overdue(world)
    world.settle()
    assert mounted(world) == before
    world.cluster.remove("ConfigMap", before)
    world.restart_operator()
    world.settle()
    assert world.cluster.find("ConfigMap", before)["data"] == held


def test_a_revision_of_an_older_operator_keeps_what_it_holds() -> None:
    world = World()
    world.serve()
    (kept,) = world.cluster.all("ControllerRevision")
    del kept["data"]["options"]
    world.change(image=BAD)
    world.settle()
    overdue(world)
    world.settle()
    older = world.cluster.find("ControllerRevision", kept["metadata"]["name"])
    assert set(older["data"]) == {"template"}
    assert world.ready() == ("False", "RolledBack")
