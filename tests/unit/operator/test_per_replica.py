"""Pods that fetch the model for themselves: no claim, a Job that only looks, and reasons from their start."""

import json
from typing import Any

import pytest

from embedding_operator import naming
from embedding_operator.cache import caching, volumes
from embedding_operator.cache.prefetch import Done, Failed
from embedding_operator.facts import Failure
from embedding_operator.health import pods
from embedding_operator.resources import cache
from embedding_operator.resources.deployment import deployment
from tests.unit.operator import samples
from tests.unit.operator.world import World

OWN = {"mode": "PerReplica", "size": "2Gi"}
EM = samples.model(cache=OWN)
CLAIM = "PersistentVolumeClaim"


def beginning(state: dict[str, Any], name: str = naming.FETCH_CONTAINER, **rest: Any) -> dict[str, Any]:
    """A pod's status while an init container is in this state."""
    return {
        "phase": "Pending",
        "conditions": [{"type": "Initialized", "status": "False"}],
        "initContainerStatuses": samples.container_status(name, state, **rest),
        "containerStatuses": samples.container_status(
            naming.CONTAINER, {"waiting": {"reason": "PodInitializing"}}
        ),
    }


def ended(kind: str, message: str) -> dict[str, Any]:
    told = json.dumps(samples.error(kind, message, permanent=False))
    return {"terminated": {"exitCode": 4, "message": told}}


CRASHED = {"terminated": {"exitCode": 1, "message": "Traceback: no"}}
WAITING = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}}


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        pytest.param(beginning({"waiting": {"reason": "PodInitializing"}}), "Starting", "created", id="new"),
        pytest.param(beginning({"running": {}}, started=True), "Fetching", "volume of its own", id="runs"),
        pytest.param(beginning({"running": {}}, "theirs"), "Starting", "container theirs runs", id="another"),
        pytest.param(
            beginning({"waiting": {"reason": "ErrImagePull"}}), "ImagePullBackOff", "fetch:1", id="no image"
        ),
        pytest.param(
            beginning({"waiting": {"reason": "CreateContainerConfigError", "message": "secret x not found"}}),
            "CreateContainerConfigError", "secret x", id="no Secret",
        ),
        pytest.param(beginning(ended("HubUnreachable", "no")), "HubUnreachable", "no", id="just ended"),
        pytest.param(
            beginning(WAITING, lastState=ended("DiskFull", "no room")), "DiskFull", "no room", id="waits"
        ),
        pytest.param(
            beginning({"running": {}}, lastState=ended("HubUnreachable", "no")), "HubUnreachable", "no",
            id="tries again",
        ),
        pytest.param(
            beginning(WAITING, lastState=CRASHED), "CrashLoopBackOff", "container fetch", id="crash"
        ),
        pytest.param(beginning({"terminated": {"exitCode": 0}}), "Starting", "created", id="done"),
        pytest.param(
            beginning(CRASHED) | {"phase": "Failed", "reason": "Evicted", "message": "The node was low."},
            "Evicted", "low", id="evicted",
        ),
    ],
)  # fmt: skip
def test_a_pod_that_begins_says_why_it_does_not_get_on(
    status: dict[str, Any], reason: str, words: str
) -> None:
    problem = pods.diagnosis(samples.pod("p", **status), naming.CONTAINER)
    assert problem
    assert (problem.reason, words in problem.message) == (reason, True), problem.message


def test_a_container_that_runs_beside_the_others_does_not_hide_them() -> None:
    status = beginning({"running": {}}, "beside", started=True)
    status["initContainerStatuses"] += samples.container_status(naming.FETCH_CONTAINER, {"running": {}})
    pod = samples.pod("p", **status)
    pod["spec"]["initContainers"] = [{"name": "beside", "restartPolicy": "Always"}]
    problem = pods.diagnosis(pod, naming.CONTAINER)
    assert problem
    assert problem.reason == "Fetching"


def test_there_is_no_claim_and_nothing_ties_the_pods_to_a_node() -> None:
    assert naming.claim(EM) == ""
    assert volumes.note(EM) == ""
    pod = deployment(EM, samples.facts(EM), samples.RUNTIME)["spec"]["template"]["spec"]
    assert "affinity" not in pod
    assert pod["topologySpreadConstraints"]


def test_where_the_pods_may_run_changes_nothing_about_what_was_found() -> None:
    placed = samples.model(cache=OWN, gpu=samples.GPU, scheduling={"nodeSelector": {"a": "b"}})
    assert naming.job(placed) == naming.job(EM) != naming.job(samples.model())


def test_another_archive_is_another_job() -> None:
    archives = [{"url": {"url": "http://a/b.tar", "sha256": digit * 64}} for digit in "ab"]
    jobs = {naming.job(samples.model(cache=OWN, model={"source": archive})) for archive in archives}
    assert len(jobs | {naming.job(EM)}) == 3


def test_the_token_is_for_the_container_that_fetches_alone() -> None:
    token = {"tokenSecretRef": {"name": "hub", "key": "token"}}
    em = samples.model(cache=OWN, model={"source": {"hub": token}})
    pod = deployment(em, samples.facts(em), samples.RUNTIME)["spec"]["template"]["spec"]
    (first,), (server,) = pod["initContainers"], pod["containers"]
    names = [{item["name"] for item in container["env"]} for container in (first, server)]
    assert "HF_TOKEN" in names[0]
    assert names[1].isdisjoint({"HF_TOKEN", "HF_ENDPOINT"})
    assert [mounts["volumeMounts"][0]["readOnly"] for mounts in (first, server)] == [False, True]


def test_it_is_served_without_a_claim() -> None:
    world = World(cache=OWN)
    world.serve()
    assert world.names(CLAIM) == []
    assert world.condition("Cached")[2].endswith("every pod fetches it into a volume of its own")
    world.restart_operator()
    world.settle()


def test_the_mode_can_be_changed_while_it_serves() -> None:
    world = World()
    world.serve()
    (before,) = world.names("Deployment")
    world.change(cache=OWN | {"accessMode": "ReadWriteOnce"})
    world.prefetched()
    world.settle()
    assert world.names("Deployment") == [before]
    assert world.names(CLAIM) != []  # a roll back would need it
    world.roll()
    world.settle()
    world.clock.advance(60)
    world.settle()
    assert world.ready() == ("True", "Ready")
    assert world.names(CLAIM) == []


def test_a_pod_that_cannot_fetch_is_told_in_terms_of_the_spec() -> None:
    world = World(cache=OWN)
    world.serve()
    world.roll(ready=0)
    world.server_pod("p", **beginning(ended("HubUnreachable", "no way to hub; set HF_ENDPOINT")))
    world.reconcile()
    status, reason, message = world.condition("Available")
    assert (status, reason) == ("False", "HubUnreachable")
    assert "1 of 1 pods: no way to hub. Check the operator's HF_ENDPOINT (spec.model.source.hub" in message


def test_a_volume_that_is_too_small_is_a_full_disk_and_a_larger_size_tries_again() -> None:
    world = World(cache=OWN)
    world.reconcile()
    words = 'Usage of EmptyDir volume "models" exceeds the limit "2Gi". '
    killed = samples.container_status(naming.PREFETCH_CONTAINER, {"terminated": {"exitCode": 137}})
    world.job_pod(phase="Failed", reason="Evicted", message=words, containerStatuses=killed)
    world.reconcile()
    status, reason, message = world.condition("Cached")
    assert (status, reason) == ("False", "DiskFull")
    assert "Write a larger spec.cache.size than 2Gi" in message
    before = world.job()["metadata"]["uid"]
    world.change(cache=OWN | {"size": "4Gi"})
    world.reconcile()
    assert world.job()["metadata"]["uid"] != before


@pytest.mark.parametrize(
    ("failure", "words"),
    [("DiskFull", "the disks of their nodes"), ("CacheUnwritable", "spec.cache.storageClassName")],
)
def test_a_failure_names_no_claim(failure: str, words: str) -> None:
    failed = Failed(Failure(failure, "it is so", permanent=True), samples.AT, 1, "a-job")
    found = caching.cached(EM, failed, None, None)
    assert words in found.message
    assert "claim" not in found.message


def test_facts_without_a_claim_are_those_of_the_job() -> None:
    job = cache.job(EM, samples.RUNTIME)
    assert job["spec"]["template"]["spec"]["volumes"][0] == {
        "name": "models",
        "emptyDir": {"sizeLimit": "2Gi"},
    }
    held = caching.cached(EM, Done(samples.facts(EM)), None, None)
    assert held.holds
