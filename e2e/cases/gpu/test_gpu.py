"""A GPU model gets the node, image, limits and toleration of a GPU, and says so when none is free.

The GPU is a number in a node's status: the scheduler looks at nothing else. The CUDA image is only
named here.
"""

import json
from collections.abc import Iterator

import pytest

from e2e.cases.kubectl import Kubectl, Object, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
RUNTIME_CLASS = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "pretended-nvidia"},
    "handler": "runc",
}


@pytest.fixture(scope="module")
def gpu_node(kubectl: Kubectl) -> Iterator[str]:
    """Give the last worker one GPU and its usual taint, for as long as the module runs."""
    node = sorted(node["metadata"]["name"] for node in kubectl.list("nodes"))[-1]
    capacity = [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": "1"}]
    kubectl("patch", "node", node, "--subresource=status", "--type=json", "--patch", json.dumps(capacity))
    kubectl("taint", "node", node, "nvidia.com/gpu=present:NoSchedule", "--overwrite")
    kubectl.apply(RUNTIME_CLASS)
    yield node
    kubectl("taint", "node", node, "nvidia.com/gpu-", check=False)
    removal = [{"op": "remove", "path": "/status/capacity/nvidia.com~1gpu"}]
    kubectl("patch", "node", node, "--subresource=status", "--type=json", "--patch", json.dumps(removal))
    kubectl("delete", "runtimeclass", "pretended-nvidia")


def _pods(kubectl: Kubectl, name: str) -> list[Object]:
    selector = f"inference.semantic-explorer.io/model={name},app.kubernetes.io/component=serving"
    return kubectl.list("pods", selector)


def test_without_any_gpu_node_the_condition_says_so(kubectl: Kubectl) -> None:
    kubectl.apply(model("first", RERANKER, gpu={"count": 1, "runtimeClassName": "pretended-nvidia"}))
    condition = kubectl.wait_for_condition("first", "Ready", "False", "NoGPUNode", seconds=30)
    assert "nvidia.com/gpu" in condition["message"]


def test_the_pod_is_scheduled_on_the_gpu_node(kubectl: Kubectl, gpu_node: str) -> None:
    (pod,) = kubectl.wait("a scheduled pod", lambda: [p for p in _pods(kubectl, "first") if _node(p)])
    container = pod["spec"]["containers"][0]
    assert _node(pod) == gpu_node
    assert container["image"].endswith("-cuda")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["resources"]["requests"]["nvidia.com/gpu"] == "1"
    assert pod["spec"]["runtimeClassName"] == "pretended-nvidia"
    assert any(entry.get("key") == "nvidia.com/gpu" for entry in pod["spec"]["tolerations"])
    # the CUDA image is not in the cluster, and the resource says that in the kubelet's words
    condition = kubectl.wait("an image that cannot be had", lambda: _image_problem(kubectl))
    assert "-cuda" in condition["message"]


def test_a_second_one_is_pending_with_the_schedulers_reason(kubectl: Kubectl, gpu_node: str) -> None:
    kubectl.apply(model("second", RERANKER, gpu={"count": 1}))
    condition = kubectl.wait_for_condition("second", "Available", "False", "Unschedulable")
    assert "Insufficient nvidia.com/gpu" in condition["message"]
    scheduled = kubectl.condition("second", "Scheduled")
    assert scheduled["reason"] == "Unschedulable"
    assert "Insufficient nvidia.com/gpu" in scheduled["message"]
    assert "The cluster has 1 nvidia.com/gpu, 0 free" in scheduled["message"]
    assert f"held by EmbeddingModel {kubectl.namespace}/first (1)" in scheduled["message"]
    assert [pod["status"]["phase"] for pod in _pods(kubectl, "second")] == ["Pending"]
    assert "Unschedulable" in kubectl("get", "em", "second")


def test_it_is_scheduled_when_the_gpu_is_free(kubectl: Kubectl, gpu_node: str) -> None:
    kubectl("delete", "em", "first", "--timeout=60s")
    kubectl.wait("a node", lambda: [p for p in _pods(kubectl, "second") if _node(p) == gpu_node])


def _node(pod: Object) -> str:
    return str(pod["spec"].get("nodeName", ""))


def _image_problem(kubectl: Kubectl) -> Object | None:
    condition = kubectl.condition("first", "Available")
    return condition if condition.get("reason") in ("ErrImagePull", "ImagePullBackOff") else None
