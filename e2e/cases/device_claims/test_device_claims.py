"""A GPU by a resource claim: the pod gets the device where it is, and says so where all are taken.

The device is an environment variable that a real driver hands through kubelet and container runtime; the
server is the CPU's, told to go on without CUDA.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from e2e.cases import audit
from e2e.cases.devices import TEMPLATE, VARIABLE, pretended_device
from e2e.cases.kubectl import Kubectl, Object, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
GPU = {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": TEMPLATE}]}
SERVICE = {"spec": {"service": {"annotations": {"example.com/written": "again"}}}}
FALLBACK = [{"name": "ALLOW_CPU_FALLBACK", "value": "true"}]


@pytest.fixture(scope="module")
def device_node(kubectl: Kubectl) -> Iterator[str]:
    """Offer one device for as long as the module runs."""
    with pretended_device(kubectl) as node:
        yield node
        # the driver has to be there as long as a pod has its device
        kubectl("delete", "em", "--all", "--timeout=60s")
        kubectl.wait("no device in use", lambda: not kubectl.list("resourceclaims"), 60)


def _model(kubectl: Kubectl, name: str, **gpu: object) -> Object:
    cache = {"size": "1Gi"}
    return model(name, RERANKER, gpu=gpu or GPU, image=kubectl.runtime_image, env=FALLBACK, cache=cache)


def _pods(kubectl: Kubectl, name: str) -> list[Object]:
    selector = f"inference.semantic-explorer.io/model={name},app.kubernetes.io/component=serving"
    return kubectl.list("pods", selector)


def _written(kubectl: Kubectl, since: datetime, wanted: str) -> set[str]:
    """What the operator wrote in the namespace, as soon as something of this kind is among it."""
    found = audit.requests(kubectl, since, datetime.now(UTC))
    kinds = {
        request.resource for request in found if request.writes and request.namespace == kubectl.namespace
    }
    return kinds if wanted in kinds else set()


def test_before_a_driver_is_there_the_condition_says_so(kubectl: Kubectl) -> None:
    kubectl.apply(_model(kubectl, "first"))
    condition = kubectl.wait_for_condition("first", "Ready", "False", "NoGPUNode", seconds=30)
    assert "install the driver that publishes its ResourceSlices" in condition["message"]


def test_the_pod_gets_a_device_on_its_node(kubectl: Kubectl, device_node: str) -> None:
    kubectl.wait_for_condition("first", "Ready", "True", "CPUFallback")
    (pod,) = _pods(kubectl, "first")
    assert pod["spec"]["nodeName"] == device_node
    (claim,) = kubectl.list("resourceclaims")
    assert claim["metadata"]["ownerReferences"][0]["name"] == pod["metadata"]["name"]
    assert claim["status"]["allocation"]["devices"]["results"][0]["device"] == "device-0"
    name = pod["metadata"]["name"]
    assert kubectl("exec", name, "-c", "server", "--", "printenv", VARIABLE).strip() == "device-0"


def test_claims_are_found_as_they_were_written(kubectl: Kubectl, device_node: str) -> None:
    since = datetime.now(UTC)
    kubectl("patch", "em", "first", "--type=merge", "--patch", json.dumps(SERVICE))
    written = kubectl.wait("the Service", lambda: _written(kubectl, since, "services"), 30)
    assert "deployments" not in written


def test_a_second_one_waits_with_the_schedulers_reason_and_takes_what_the_first_gives_back(
    kubectl: Kubectl, device_node: str
) -> None:
    kubectl.apply(_model(kubectl, "second"))
    scheduled = kubectl.wait_for_condition("second", "Scheduled", "False", "Unschedulable")
    assert "cannot allocate all claims" in scheduled["message"]
    kubectl("delete", "em", "first", "--timeout=60s")
    kubectl.wait("a node", lambda: [p for p in _pods(kubectl, "second") if p["spec"].get("nodeName")])


def test_a_count_beside_claims_is_refused_with_what_to_write(kubectl: Kubectl) -> None:
    with pytest.raises(AssertionError, match="write count or resourceClaims, not both"):
        kubectl.apply(_model(kubectl, "both", **GPU, count=1))
