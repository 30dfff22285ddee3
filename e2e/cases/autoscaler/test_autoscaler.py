"""Pain 3, an operator and an autoscaler that fight over replicas (kserve#2278, #3768, #4855).

The HorizontalPodAutoscaler here has no metrics: it holds replicas within its bounds by the sub-resource, as
it does with metrics, and looks every 5 s (`e2e/cluster/kind.py`).
"""

import time
from datetime import UTC, datetime

import pytest

from e2e.cases import audit
from e2e.cases.kubectl import Kubectl, Object, model

OWNED = "inference.semantic-explorer.io/model=scaled"
LOOKS_SECONDS, REPAIR_SECONDS = 12.0, 5.0
"""Two of the autoscaler's looks."""


@pytest.fixture(scope="module", autouse=True)
def autoscaled(kubectl: Kubectl) -> None:
    kubectl.apply(model("scaled", "embedding-operator/bert-tiny-cross-encoder"))
    kubectl.wait_for_condition("scaled", "Ready", "True")
    kubectl.apply(_autoscaler(at_least=2, at_most=3))


def test_the_autoscalers_number_is_taken_over_and_left_to_it(kubectl: Kubectl) -> None:
    kubectl.wait("its number at the resource", lambda: _replicas(kubectl) == (2, 2), 60)
    kubectl.wait_for_condition("scaled", "Ready", "True")
    before, since = _marks(kubectl), datetime.now(UTC)
    time.sleep(LOOKS_SECONDS)
    assert _marks(kubectl) == before
    found = kubectl.get("hpa", "scaled") or {}
    told = {entry["type"]: (entry["status"], entry["reason"]) for entry in found["status"]["conditions"]}
    # it has read the sub-resource, the selector too; all that it lacks are metrics
    assert told["AbleToScale"][0] == "True"
    assert told["ScalingActive"] == ("False", "FailedGetResourceMetric")
    assert [request for request in audit.requests(kubectl, since, datetime.now(UTC)) if request.writes] == []


def test_what_somebody_else_writes_within_its_bounds_stays(kubectl: Kubectl) -> None:
    kubectl("scale", "embeddingmodel", "scaled", "--replicas=3")
    kubectl.wait("three everywhere", lambda: _replicas(kubectl) == (3, 3), REPAIR_SECONDS)
    (deployment,) = kubectl.list("deployments", OWNED)
    kubectl("scale", "deployment", deployment["metadata"]["name"], "--replicas=1")
    kubectl.wait("three again", lambda: _replicas(kubectl) == (3, 3), REPAIR_SECONDS)


def _replicas(kubectl: Kubectl) -> tuple[int, int]:
    """Return what the resource asks for, and what its Deployment does."""
    (deployment,) = kubectl.list("deployments", OWNED)
    return (kubectl.get("embeddingmodel", "scaled") or {})["spec"]["replicas"], deployment["spec"]["replicas"]


def _marks(kubectl: Kubectl) -> tuple[object, ...]:
    """Return what changes with every rescale, whoever does it."""
    (deployment,) = kubectl.list("deployments", OWNED)
    autoscaler = kubectl.get("hpa", "scaled") or {}
    resource = kubectl.get("embeddingmodel", "scaled") or {}
    return (
        autoscaler["status"]["lastScaleTime"],
        resource["metadata"]["generation"],
        deployment["metadata"]["generation"],
    )


def _autoscaler(*, at_least: int, at_most: int) -> Object:
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    target = {
        "apiVersion": "inference.semantic-explorer.io/v1alpha1",
        "kind": "EmbeddingModel",
        "name": "scaled",
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "scaled"},
        "spec": {
            "scaleTargetRef": target,
            "minReplicas": at_least,
            "maxReplicas": at_most,
            "metrics": [{"type": "Resource", "resource": cpu}],
        },
    }
