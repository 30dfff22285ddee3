"""The reconcile, the prefetch Job and nodes with GPUs."""

import pytest

from embedding_operator import naming
from embedding_operator.errors import ForbiddenError
from tests.unit.operator import samples
from tests.unit.operator.world import World


def test_the_job_of_a_gpu_model_runs_where_the_gpus_are() -> None:
    world = World(gpu=samples.GPU)
    world.cluster.hosts = ["gpu-1", "gpu-2"]
    world.reconcile()
    spec = world.job()["spec"]["template"]["spec"]
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchExpressions"] == [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["gpu-1", "gpu-2"]}
    ]
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ([], "no node that takes pods offers nvidia.com/gpu: 1"),
        (ForbiddenError("no list of nodes"), "no list of nodes"),
    ],
)
def test_without_a_gpu_node_there_is_no_job_and_the_condition_says_why(hosts: list[str], words: str) -> None:
    world = World(gpu=samples.GPU)
    world.cluster.hosts = hosts
    outcome = world.reconcile()
    assert world.cluster.all("Job") == []
    assert world.condition("Cached")[:2] == ("False", "NoGPUNode")
    assert words in world.condition("Ready")[2]
    assert outcome.look_again is not None
    assert 15 <= outcome.look_again <= 30
    world.cluster.hosts = ["gpu-1"]
    world.reconcile()
    assert world.job()


CLAIMS = {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]}


@pytest.mark.parametrize(("hosts", "terms"), [(["gpu-1"], ["gpu-1"]), (None, None)])
def test_the_job_of_a_model_that_claims_devices_runs_where_devices_are(
    hosts: list[str] | None, terms: list[str] | None
) -> None:
    world = World(gpu=CLAIMS)
    world.cluster.device_hosts = hosts
    world.reconcile()
    spec = world.job()["spec"]["template"]["spec"]
    assert "resourceClaims" not in spec  # it would take a device from those that serve
    if terms is None:
        assert "nodeAffinity" not in spec["affinity"]
        return
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchExpressions"][0]["values"] == terms


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ([], "no node that takes pods offers devices to claim. Add one, or install the driver"),
        (ForbiddenError("no list of slices"), "no list of slices"),
    ],
)
def test_without_devices_there_is_no_job_and_the_condition_says_why(hosts: list[str], words: str) -> None:
    world = World(gpu=CLAIMS)
    world.cluster.device_hosts = hosts
    world.reconcile()
    assert world.cluster.all("Job") == []
    assert world.ready() == ("False", "NoGPUNode")
    assert words in world.condition("Ready")[2]


def test_a_pod_whose_claim_gets_nothing_is_told_without_a_count_of_gpus() -> None:
    world = World(gpu=CLAIMS, replicas=1)
    world.cluster.device_hosts = ["gpu-1"]
    world.prefetched()
    world.settle()
    world.server_pod(
        "minilm-abababab-x", phase="Pending", conditions=samples.unscheduled("cannot allocate all claims")
    )
    world.reconcile()
    status, reason, message = world.condition("Scheduled")
    assert (status, reason) == ("False", "Unschedulable")
    assert "cannot allocate all claims" in message
    assert "nvidia.com/gpu" not in message


def test_other_claims_of_devices_are_another_place_for_the_cache() -> None:
    def claim(**gpu: object) -> str:
        return naming.claim(samples.model(gpu=gpu))

    named = {"name": "gpu", "resourceClaimTemplateName": "one-gpu"}
    assert claim(resourceClaims=[named]) == claim(resourceClaims=[{**named, "name": "x", "request": "y"}])
    others = {claim(), claim(count=2), claim(resourceClaims=[named])}
    others |= {claim(resourceClaims=[{"name": "gpu", "resourceClaimName": "one-gpu"}])}
    assert len(others) == 3  # one or two of the same kind are on the same nodes


def test_a_job_that_waits_for_a_node_that_is_gone_goes_to_the_new_one() -> None:
    world = World(gpu=samples.GPU)
    world.cluster.hosts = ["gpu-1"]
    world.reconcile()
    world.job_pod(phase="Pending", conditions=samples.unscheduled("0/3 nodes are available"))
    world.settle()
    uid = world.job()["metadata"]["uid"]
    world.cluster.hosts = ["gpu-2"]
    world.reconcile()
    assert world.job()["metadata"]["uid"] != uid


def test_pods_without_a_free_gpu_are_told_in_the_schedulers_words() -> None:
    world = World(gpu=samples.GPU, replicas=1)
    world.cluster.hosts = ["gpu-1"]
    world.prefetched()
    world.settle()
    world.server_pod(
        "minilm-abababab-x", phase="Pending", conditions=samples.unscheduled("3 Insufficient nvidia.com/gpu.")
    )
    world.reconcile()
    for kind in ("Available", "Ready"):
        status, reason, message = world.condition(kind)
        assert (status, reason) == ("False", "Unschedulable")
        assert "3 Insufficient nvidia.com/gpu." in message
    assert world.em["status"]["summary"] == {
        "ready": "False", "replicas": "0/1", "provider": "cuda", "reason": "Unschedulable"
    }  # fmt: skip
