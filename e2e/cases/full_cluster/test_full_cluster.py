"""Pain 2, a rolling update that deadlocks where the only GPU is taken (LLMKube#192, kserve#4618).

The GPUs are a number in a node's status; the servers fall back to the CPU, and are allowed to.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cases.clients import asking, assert_none_failed
from e2e.cases.kubectl import Kubectl, Object, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
RESOURCE = "example.com/scarce-gpu"
GPUS = 2
RERANK = {"query": "a", "documents": ["b"]}


@pytest.fixture(scope="module", autouse=True)
def gpu_node(kubectl: Kubectl) -> Iterator[None]:
    """Give the last worker two devices that no driver knows, for as long as the module runs."""
    node = sorted(node["metadata"]["name"] for node in kubectl.list("nodes"))[-1]
    path = "/status/capacity/" + RESOURCE.replace("/", "~1")
    _patch(kubectl, node, {"op": "add", "path": path, "value": str(GPUS)})
    yield
    _patch(kubectl, node, {"op": "remove", "path": path})


def _patch(kubectl: Kubectl, node: str, *operations: Object) -> None:
    kubectl("patch", "node", node, "--subresource=status", "--type=json", "--patch", json.dumps(operations))


def scarce(kubectl: Kubectl, level: str, gpus: int = 1, **rollout: Any) -> Object:
    return model(
        "scarce",
        RERANKER,
        replicas=GPUS // gpus,
        gpu={"count": gpus, "resourceName": RESOURCE},
        image=kubectl.runtime_image,
        env=[{"name": "ALLOW_CPU_FALLBACK", "value": "true"}],
        server={"logLevel": level},
        rollout={"surgeWaitSeconds": 3, **rollout},
    )


def status(kubectl: Kubectl) -> Object:
    found: Object = (kubectl.get("em", "scarce") or {}).get("status", {})
    return found


def updated(kubectl: Kubectl, level: str) -> bool:
    """Whether all pods are of the wanted template, and Ready."""
    return _levels(kubectl) == {level} and kubectl.condition("scarce", "Ready").get("status") == "True"


def _levels(kubectl: Kubectl) -> set[str]:
    pods = kubectl.list(
        "pods", "inference.semantic-explorer.io/model=scarce,app.kubernetes.io/component=serving"
    )
    variables = [entry for pod in pods for entry in pod["spec"]["containers"][0]["env"]]
    return {entry["value"] for entry in variables if entry["name"] == "LOG_LEVEL"}


def test_an_update_of_two_pods_that_hold_every_gpu_replaces_them_and_no_request_fails(
    kubectl: Kubectl,
) -> None:
    kubectl.apply(scarce(kubectl, "info"))
    kubectl.wait_for_condition("scarce", "Ready", "True")
    with asking(kubectl, "scarce", "/rerank", RERANK) as asked:
        kubectl.apply(scarce(kubectl, "debug"))
        kubectl.wait(
            "a replacing update", lambda: status(kubectl)["rollout"].get("strategy") == "Replace", 60
        )
        kubectl.wait("an updated set", lambda: updated(kubectl, "debug"), 120)
    assert_none_failed(asked)


def test_an_update_that_would_interrupt_is_announced_and_waits_until_it_is_allowed(kubectl: Kubectl) -> None:
    kubectl("delete", "em", "scarce", "--wait=true")
    kubectl.apply(scarce(kubectl, "info", gpus=2))
    kubectl.wait_for_condition("scarce", "Ready", "True")
    kubectl.answer("http://scarce/rerank", RERANK)
    kubectl.apply(scarce(kubectl, "debug", gpus=2))
    condition = kubectl.wait_for_condition("scarce", "Progressing", "False", "WillInterrupt", seconds=60)
    assert "spec.rollout.interruption" in condition["message"]
    assert kubectl.condition("scarce", "Stalled")["status"] == "True"
    assert kubectl.condition("scarce", "Available")["status"] == "True"
    assert kubectl.request("http://scarce/rerank", RERANK).status == 200
    kubectl.apply(scarce(kubectl, "debug", gpus=2, interruption="Allow"))
    kubectl.wait("the allowed update", lambda: _levels(kubectl) == {"debug"}, 120)
    kubectl.wait_for_condition("scarce", "Ready", "True")
