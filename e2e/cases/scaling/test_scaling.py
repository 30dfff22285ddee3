"""Pain 11, a scale-down kills a pod that somebody waits for (kserve#1247): here it waits for that pod.

Pain 10, to zero and back without Knative (kserve#4007, nim#710): `kubectl scale` is all it takes.
"""

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


def test_what_was_at_zero_answers_again_and_fetches_nothing(kubectl: Kubectl) -> None:
    kubectl.wait("no pods", lambda: not kubectl.list("pods", SERVING), 60)
    kept = _fetched(kubectl)
    kubectl("scale", "embeddingmodel", "growing", "--replicas=1")
    kubectl.wait_for_condition("growing", "Ready", "True", "Ready")
    answer = kubectl.answer("http://growing/rerank", {"query": "a", "documents": ["b"]})
    assert answer.status == 200, answer.body
    assert _fetched(kubectl) == kept


def _fetched(kubectl: Kubectl) -> set[str]:
    """Return the Jobs that fetched, and the claims that they filled."""
    owned = "inference.semantic-explorer.io/model=growing"
    return {entry["metadata"]["uid"] for entry in kubectl.list("jobs,persistentvolumeclaims", owned)}


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
