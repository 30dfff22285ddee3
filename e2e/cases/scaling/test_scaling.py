"""A pod that still loads is not what a scale-down removes (scale-to-zero kills a pod that somebody waits for:
kserve#1247)."""

from e2e.cases.kubectl import Kubectl, Object, model

SERVING = "inference.semantic-explorer.io/model=growing,app.kubernetes.io/component=serving"
# little CPU makes the server's start long enough to be scaled down in
SLOW = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "250m"}}


def test_a_decrease_waits_for_the_pod_that_loads(kubectl: Kubectl) -> None:
    kubectl.apply(model("growing", "embedding-operator/bert-tiny-cross-encoder", resources=SLOW))
    kubectl.wait_for_condition("growing", "Ready", "True")
    kubectl("scale", "embeddingmodel", "growing", "--replicas=2")
    new = kubectl.wait("a second pod on a node", lambda: _loading(kubectl), 30)
    kubectl("scale", "embeddingmodel", "growing", "--replicas=0")
    condition = kubectl.wait_for_condition("growing", "Progressing", "True", "ScaleDownWaits", seconds=10)
    assert new["metadata"]["name"] in condition["message"]
    assert kubectl.list("deployments")[0]["spec"]["replicas"] == 2
    assert _ready(kubectl.get("pod", new["metadata"]["name"]) or {}) is False
    kubectl.wait("the pod to be ready", lambda: _was_ready(kubectl, new), 90)
    kubectl.wait("no replicas", lambda: kubectl.list("deployments")[0]["spec"]["replicas"] == 0, 15)
    kubectl.wait_for_condition("growing", "Ready", "True", "ScaledToZero", seconds=60)


def _loading(kubectl: Kubectl) -> Object | None:
    found = [pod for pod in kubectl.list("pods", SERVING) if pod["spec"].get("nodeName") and not _ready(pod)]
    return found[0] if found else None


def _ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _was_ready(kubectl: Kubectl, pod: Object) -> bool:
    """Whether it got ready: it is gone soon after, and then only what the resource says tells."""
    found = kubectl.get("pod", pod["metadata"]["name"])
    return found is None or _ready(found) or "deletionTimestamp" in found["metadata"]
