"""The reconcile on an in-memory cluster: the ordinary way from apply to delete, drift and restarts."""

import pytest

from embedding_operator import api, naming
from embedding_operator.errors import ForbiddenError, NotFoundError
from tests.unit.operator import samples
from tests.unit.operator.world import KEY, World


def test_the_first_reconcile_makes_a_claim_and_the_job_that_fills_it() -> None:
    world = World()
    world.reconcile()
    assert world.names("PersistentVolumeClaim") == [naming.claim(samples.model())]
    assert world.names("Job") == [naming.job(samples.model())]
    assert world.cluster.all("Deployment") == world.cluster.all("Service") == []
    assert world.ready() == ("False", "Pending")
    assert world.em["status"]["url"] == "http://minilm.default.svc"


def test_a_filled_cache_brings_up_the_set_and_the_service() -> None:
    world = World()
    world.prefetched()
    world.reconcile()
    assert world.names("Deployment") == ["minilm-abababab"]
    assert world.serving() == "abababab"
    assert world.condition("Cached")[:2] == ("True", "Cached")
    assert world.ready() == ("False", "Starting")
    world.roll()
    world.reconcile()
    assert world.ready() == ("True", "Ready")
    status = world.em["status"]
    assert status["fingerprint"] == samples.FINGERPRINT
    assert status["resolvedRevision"] == samples.COMMIT
    assert status["summary"] == {"ready": "True", "replicas": "2/2", "provider": "cpu"}
    assert status["model"]["dimensions"] == 384
    assert status["observedGeneration"] == 1


def test_in_the_steady_state_nothing_is_asked_of_the_api_server() -> None:
    world = World()
    world.serve()
    world.cluster.requests.clear()
    world.reconcile()
    assert world.cluster.requests == []


def test_a_restarted_operator_writes_nothing() -> None:
    world = World()
    world.serve()
    world.cluster.writes()
    events = list(world.cluster.events)
    world.restart_operator()
    world.reconcile()
    assert world.cluster.requests == []
    assert world.cluster.events == events


@pytest.mark.parametrize("kind", ["Deployment", "Service", "PersistentVolumeClaim", "PodDisruptionBudget"])
def test_a_deleted_child_is_made_again(kind: str) -> None:
    world = World()
    world.serve()
    before = world.names(kind)
    world.cluster.remove(kind, before[0])
    world.reconcile()
    assert world.names(kind) == before


def test_an_edited_field_comes_back_and_a_foreign_one_stays() -> None:
    world = World()
    world.serve()
    deployment = world.cluster.find("Deployment")
    deployment["spec"]["replicas"] = 7
    deployment["metadata"]["annotations"]["someone.else/note"] = "theirs"
    world.settle()
    assert world.cluster.find("Deployment")["spec"]["replicas"] == 2
    assert world.cluster.find("Deployment")["metadata"]["annotations"]["someone.else/note"] == "theirs"


def test_a_field_that_is_no_longer_wanted_is_taken_out() -> None:
    world = World(gpu={**samples.GPU, "runtimeClassName": "nvidia"})
    world.cluster.hosts = ["gpu-1"]
    world.serve()
    assert world.cluster.find("Deployment")["spec"]["template"]["spec"]["runtimeClassName"] == "nvidia"
    world.change(gpu=samples.GPU)
    world.reconcile()
    assert "runtimeClassName" not in world.cluster.find("Deployment")["spec"]["template"]["spec"]


def test_scaling_touches_the_deployment_only() -> None:
    world = World()
    world.serve()
    world.cluster.writes()
    world.change(replicas=3)
    world.reconcile()
    assert world.cluster.find("Deployment")["spec"]["replicas"] == 3
    assert {request[:2] for request in world.cluster.writes()} == {
        ("apply", "Deployment"),
        ("status", api.KIND),
    }
    assert world.ready() == ("False", "RollingOut")
    assert world.condition("Available")[0] == "True"


def test_scaled_to_zero_says_so_and_keeps_the_cache() -> None:
    world = World()
    world.serve()
    world.change(replicas=0)
    world.reconcile()
    world.roll()
    world.settle()
    assert world.ready() == ("True", "ScaledToZero")
    assert world.condition("Progressing")[:2] == ("False", "Complete")
    assert world.em["status"]["summary"]["replicas"] == "0/0"
    assert world.names("PersistentVolumeClaim")


def test_nothing_is_done_to_a_resource_that_is_being_deleted() -> None:
    world = World()
    world.em["metadata"]["deletionTimestamp"] = world.clock.stamp()
    outcome = world.reconcile()
    assert world.cluster.requests == []
    assert not outcome.gone


def test_a_resource_that_is_gone_is_forgotten() -> None:
    world = World()
    world.cluster.remove(api.KIND, "minilm")
    assert world.reconcile().gone


def test_children_are_owned_by_the_resource() -> None:
    world = World()
    world.prefetched()
    world.settle()
    for kind in ("PersistentVolumeClaim", "Job", "Deployment", "Service", "PodDisruptionBudget"):
        (owner,) = world.cluster.find(kind)["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == ("owner-uid", True, True)


# --- names that are taken


def foreign_service(world: World, **owner: object) -> None:
    metadata: dict[str, object] = {"name": "minilm", "namespace": "default"}
    if owner:
        metadata["ownerReferences"] = [{"controller": True, "uid": "another"} | owner]
    world.cluster.put(
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": {"app": "theirs"}}}
    )


@pytest.mark.parametrize(
    ("owner", "reason"),
    [
        ({}, "NameConflict"),
        ({"kind": "Other", "name": "x"}, "NameConflict"),
        ({"kind": api.KIND, "name": "minilm"}, "WaitingForRemoval"),
    ],
    ids=["nobody's", "somebody's", "a predecessor's"],
)
def test_an_object_that_we_do_not_control_is_left_alone(owner: dict[str, object], reason: str) -> None:
    world = World()
    world.prefetched()
    foreign_service(world, **owner)
    outcome = world.reconcile()
    assert world.cluster.find("Service")["spec"] == {"selector": {"app": "theirs"}}
    assert world.condition("Accepted")[:2] == ("False", reason)
    assert world.ready() == ("False", reason)
    world.roll()
    world.reconcile()
    assert world.condition("Available")[:2] == ("False", reason)
    assert "url" not in world.em["status"]
    assert outcome.look_again is not None
    world.cluster.remove("Service", "minilm")
    world.settle()
    assert world.ready() == ("True", "Ready")


def test_a_name_that_is_taken_is_told_before_anything_is_made() -> None:
    world = World()
    foreign_service(world)
    world.reconcile()
    assert world.condition("Accepted")[:2] == ("False", "NameConflict")
    assert world.cluster.all("PersistentVolumeClaim") == world.cluster.all("Job") == []


def test_what_is_left_of_a_predecessor_is_waited_for() -> None:
    world = World()
    world.prefetched()
    world.settle()
    world.em["metadata"]["uid"] = "new-owner"
    writes = world.cluster.writes()
    world.reconcile()
    assert world.condition("Accepted")[:2] == ("False", "WaitingForRemoval")
    assert {kind for verb, kind, _ in world.cluster.writes() if verb != "status"} == set(), writes
    for kind in ("Job", "Deployment", "Service", "PodDisruptionBudget", "PersistentVolumeClaim"):
        world.cluster.remove(kind, world.names(kind)[0])
    world.reconcile()
    (owner,) = world.cluster.find("PersistentVolumeClaim")["metadata"]["ownerReferences"]
    assert owner["uid"] == "new-owner"
    assert world.condition("Accepted")[0] == "True"


def test_our_own_object_that_lost_its_labels_gets_them_back() -> None:
    world = World()
    world.serve()
    world.cluster.find("Service")["metadata"]["labels"].clear()
    world.reconcile()
    labels = world.cluster.find("Service")["metadata"]["labels"]
    assert labels[naming.MANAGED_BY_LABEL] == naming.FIELD_MANAGER


# --- a cache that lags, or that missed something


def test_objects_that_the_watches_do_not_show_yet_are_not_made_twice() -> None:
    world = World()
    world.reconcile()
    world.cluster.hidden = {world.job()["metadata"]["uid"]}
    uid = world.job()["metadata"]["uid"]
    world.reconcile()
    assert world.job()["metadata"]["uid"] == uid


def test_a_resource_that_the_watches_still_show_gets_no_children() -> None:
    world = World()
    ghost = world.cluster.resource(KEY)
    world.cluster.remove(api.KIND, "minilm")
    world.cluster.resource = lambda key: ghost  # type: ignore[method-assign]
    assert world.reconcile().gone
    assert world.cluster.all("Job") == []


def test_the_resync_finds_what_the_watches_missed() -> None:
    world = World()
    world.serve()
    gone = world.cluster.find("Deployment")
    world.cluster.remove("Deployment", gone["metadata"]["name"])
    world.cluster.ghosts = [gone]
    world.reconcile()
    assert world.names("Deployment") == []
    world.reconcile(fresh=True)
    assert world.names("Deployment") == ["minilm-abababab"]
    assert gone["metadata"]["uid"] in world.cluster.buried


# --- the API server says no


def test_a_refused_object_is_told_in_the_condition() -> None:
    world = World()
    world.cluster.refuse["PersistentVolumeClaim"] = ForbiddenError("exceeded quota: storage", status=403)
    outcome = world.reconcile()
    assert world.condition("Accepted")[:2] == ("False", "Rejected")
    assert "exceeded quota: storage" in world.condition("Ready")[2]
    assert outcome.look_again is not None


def test_a_resource_that_goes_while_its_status_is_written_is_forgotten() -> None:
    world = World()

    async def gone(*_: object) -> None:
        raise NotFoundError("not found", status=404)

    world.cluster.apply_status = gone  # type: ignore[method-assign, assignment]
    assert world.reconcile().gone


# --- Events


def test_every_change_of_reason_is_one_event() -> None:
    world = World()
    for _ in range(3):
        world.reconcile()
    assert [reason for reason, _, _ in world.cluster.events] == ["Pending"]
    world.end_job(samples.ok(), well=True)
    world.reconcile()
    world.roll()
    for _ in range(3):
        world.reconcile()
    assert [(reason, warning) for reason, _, warning in world.cluster.events] == [
        ("Pending", False),
        ("Starting", False),
        ("Ready", False),
    ]
