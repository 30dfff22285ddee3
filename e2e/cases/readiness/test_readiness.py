"""A pod that runs and is not ready says why, or that it cannot be asked.

Pain 6, hidden root causes (kthena#1220, kserve#2962); pain 5, Ready while broken (kserve#1859, #1791, #4626).

The GPU is a number in a node's status, so that the server in the pod finds none.
"""

import json
from collections.abc import Iterator

import pytest

from e2e.cases.kubectl import Kubectl, Object, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
RESOURCE = "example.com/pretended-gpu"
DENY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "nobody"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}


@pytest.fixture(scope="module", autouse=True)
def gpu_node(kubectl: Kubectl) -> Iterator[None]:
    """Give the last worker a device that no driver knows, for as long as the module runs."""
    node = sorted(node["metadata"]["name"] for node in kubectl.list("nodes"))[-1]
    path = "/status/capacity/" + RESOURCE.replace("/", "~1")
    _patch(kubectl, node, {"op": "add", "path": path, "value": "2"})
    yield
    _patch(kubectl, node, {"op": "remove", "path": path})


def test_a_server_that_finds_no_gpu_is_quoted(kubectl: Kubectl) -> None:
    kubectl.apply(_gpu_model(kubectl, "asked"))
    condition = kubectl.wait_for_condition("asked", "Ready", "False", "ProviderUnavailable")
    assert "runs on the CPU" in condition["message"]
    assert kubectl.condition("asked", "Available")["reason"] == "ProviderUnavailable"
    assert len(_told(kubectl, "asked", "ProviderUnavailable")) == 1


def test_where_the_pod_cannot_be_reached_that_is_said(kubectl: Kubectl) -> None:
    kubectl.apply(DENY)
    try:
        condition = kubectl.wait(
            "no answer", lambda: _mentions(kubectl, "asked", "the operator cannot ask it why"), 60
        )
        assert condition["reason"] == "NotReady"
    finally:
        kubectl("delete", "networkpolicy", "nobody")


def test_a_fall_back_that_is_allowed_serves_and_is_told(kubectl: Kubectl) -> None:
    kubectl("delete", "em", "asked", "--wait=false")
    allowed = {"name": "ALLOW_CPU_FALLBACK", "value": "true"}
    kubectl.apply(_gpu_model(kubectl, "allowed", env=[allowed]))
    condition = kubectl.wait_for_condition("allowed", "Ready", "True", "CPUFallback")
    assert "1 of 1 pods fell back to the CPU" in condition["message"]
    status = (kubectl.get("em", "allowed") or {})["status"]
    assert (status["provider"], status["precision"]) == ("cpu", "fp32")
    assert status["summary"]["provider"] == "cpu"
    assert [event["type"] for event in _told(kubectl, "allowed", "CPUFallback")] == ["Warning"]


def test_a_node_that_cannot_compute_as_asked_is_named(kubectl: Kubectl) -> None:
    """The image for CPUs has no OpenVINO, which alone computes in bf16 there."""
    body = model("rounded", RERANKER)
    body["spec"]["model"]["precision"] = "bf16"
    kubectl.apply(body)
    condition = kubectl.wait_for_condition("rounded", "Ready", "False", "PrecisionUnavailable")
    nodes = [node["metadata"]["name"] for node in kubectl.list("nodes")]
    assert any(f"{name} cannot compute in bf16" in condition["message"] for name in nodes)


def _gpu_model(kubectl: Kubectl, name: str, **spec: object) -> Object:
    return model(
        name, RERANKER, gpu={"count": 1, "resourceName": RESOURCE}, image=kubectl.runtime_image, **spec
    )


def _mentions(kubectl: Kubectl, name: str, words: str) -> Object | None:
    condition = kubectl.condition(name, "Available")
    return condition if words in condition.get("message", "") else None


def _told(kubectl: Kubectl, name: str, reason: str) -> list[Object]:
    events = [event for event in kubectl.list("events") if event["reason"] == reason]
    return [event for event in events if event["involvedObject"]["name"] == name]


def _patch(kubectl: Kubectl, node: str, change: Object) -> None:
    kubectl("patch", "node", node, "--subresource=status", "--type=json", "--patch", json.dumps([change]))
