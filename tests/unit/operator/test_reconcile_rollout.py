"""The reconcile when what is to be served changes: two sets side by side, one Service that moves."""

from embedding_operator import naming
from embedding_operator.api import parse
from tests.unit.operator import samples
from tests.unit.operator.world import World

NEW = {"id": "BAAI/bge-small-en-v1.5", "revision": "main", "task": "auto"}


def changed() -> World:
    """A served model whose spec now names another one, which has been fetched."""
    world = World()
    world.serve()
    world.change(model=NEW)
    world.settle()
    return world


def test_a_changed_model_is_fetched_beside_the_running_one() -> None:
    world = changed()
    assert world.serving() == "abababab"
    assert world.names("Deployment") == ["minilm-abababab"]
    assert len(world.names("Job")) == len(world.names("PersistentVolumeClaim")) == 2
    assert world.condition("Available")[0] == "True"
    assert world.ready() == ("False", "Pending")
    assert world.em["status"]["fingerprint"] == samples.FINGERPRINT


def test_the_service_moves_when_all_of_the_new_set_is_available_and_the_old_set_goes_after() -> None:
    world = changed()
    world.end_job(samples.ok(model=NEW["id"], fingerprint=samples.OTHER), well=True)
    world.settle()
    assert world.names("Deployment") == ["minilm-abababab", "minilm-cdcdcdcd"]
    world.roll("minilm-cdcdcdcd", ready=1)
    world.settle()
    assert world.serving() == "abababab"
    world.roll("minilm-cdcdcdcd")
    world.reconcile()
    assert world.serving() == "cdcdcdcd"
    assert world.names("Deployment") == ["minilm-abababab", "minilm-cdcdcdcd"]
    outcome = world.reconcile()
    assert outcome.look_again == 5
    assert world.names("Deployment") == ["minilm-abababab", "minilm-cdcdcdcd"]
    world.clock.advance(5)
    world.settle()
    assert world.names("Deployment") == ["minilm-cdcdcdcd"]
    assert len(world.names("Job")) == len(world.names("PersistentVolumeClaim")) == 1
    assert world.ready() == ("True", "Ready")
    assert world.em["status"]["fingerprint"] == samples.OTHER


def test_the_old_set_is_kept_whole_while_the_new_one_fails() -> None:
    world = changed()
    world.end_job(samples.error("ModelNotFound", "404", permanent=True), well=False)
    world.settle()
    assert world.ready() == ("False", "ModelNotFound")
    assert world.condition("Available")[0] == "True"
    world.cluster.remove("Deployment", "minilm-abababab")
    world.reconcile()
    assert world.names("Deployment") == ["minilm-abababab"]
    env = world.cluster.find("Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]
    model = next(item["value"] for item in env if item["name"] == "DEFAULT_EMBEDDING_MODEL")
    assert model == f"sentence-transformers/all-MiniLM-L6-v2@{samples.COMMIT}"


def test_scaling_reaches_the_old_set_too() -> None:
    world = changed()
    world.change(replicas=5)
    world.reconcile()
    assert world.cluster.find("Deployment", "minilm-abababab")["spec"]["replicas"] == 5


def test_back_to_the_first_model_drops_the_second() -> None:
    world = changed()
    world.end_job(samples.ok(model=NEW["id"], fingerprint=samples.OTHER), well=True)
    world.settle()
    world.change(model=samples.model_body()["spec"]["model"])
    world.clock.advance(5)
    world.settle()
    assert world.names("Deployment") == ["minilm-abababab"]
    assert world.names("Job") == [naming.job(samples.model())]
    assert world.ready() == ("True", "Ready")


def test_another_revision_of_the_same_space_rolls_in_place() -> None:
    world = World()
    world.serve()
    old_claim = world.names("PersistentVolumeClaim")[0]
    world.server_pod("minilm-abababab-old", phase="Running")
    world.cluster.find("Pod", "minilm-abababab-old")["spec"]["volumes"] = [
        {"persistentVolumeClaim": {"claimName": old_claim}}
    ]
    world.change(model={**world.em["spec"]["model"], "revision": "v1.0"})
    world.settle()
    world.end_job(samples.ok(commit="d" * 40), well=True)
    world.settle()
    assert world.names("Deployment") == ["minilm-abababab"]
    volumes = world.cluster.find("Deployment")["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["persistentVolumeClaim"]["claimName"] == naming.claim(parse(world.em))
    assert old_claim in world.names("PersistentVolumeClaim")  # a pod still reads from it
    world.cluster.remove("Pod", "minilm-abababab-old")
    world.roll()
    world.settle()
    assert world.names("PersistentVolumeClaim") == [naming.claim(parse(world.em))]
    assert world.em["status"]["resolvedRevision"] == "d" * 40


def test_the_budget_counts_the_pods_behind_the_service_and_moves_with_it() -> None:
    world = changed()
    world.end_job(samples.ok(model=NEW["id"], fingerprint=samples.OTHER), well=True)
    world.settle()
    budget = world.cluster.find("PodDisruptionBudget")
    assert budget["spec"]["selector"]["matchLabels"] == naming.selector("minilm", samples.FINGERPRINT)
    world.roll("minilm-cdcdcdcd")
    world.settle()
    assert budget["spec"]["selector"]["matchLabels"] == naming.selector("minilm", samples.OTHER)


def test_a_budget_that_was_loosened_is_tight_again() -> None:
    world = World()
    world.serve()
    world.cluster.find("PodDisruptionBudget")["spec"]["maxUnavailable"] = 2
    world.reconcile()
    assert world.cluster.find("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_a_service_that_was_bent_selects_the_served_set_again() -> None:
    world = World()
    world.serve()
    world.cluster.find("Service")["spec"]["selector"][naming.FINGERPRINT_LABEL] = "00000000"
    world.reconcile()
    assert world.serving() == "abababab"


def test_a_service_deleted_during_a_change_comes_back_on_the_old_set() -> None:
    world = changed()
    world.end_job(samples.ok(model=NEW["id"], fingerprint=samples.OTHER), well=True)
    world.settle()
    world.cluster.remove("Service", "minilm")
    world.reconcile()
    assert world.serving() == "abababab"


def test_another_image_rolls_in_place() -> None:
    world = World()
    world.serve()
    world.change(image="mine:1")
    world.settle()
    (container,) = world.cluster.find("Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "mine:1"
    assert world.ready() == ("False", "RollingOut")
    world.roll()
    world.settle()
    assert world.ready() == ("True", "Ready")
