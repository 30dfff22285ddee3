"""A restarted operator disturbs nothing, and catches up with what changed while it was away."""

from e2e.cases.kubectl import OPERATOR, OPERATOR_NAMESPACE, Kubectl, model, scaled_to_zero

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
OWNED = "inference.semantic-explorer.io/model=steady"


def _versions(kubectl: Kubectl) -> dict[str, str]:
    found = kubectl.list("deployments,services,persistentvolumeclaims,jobs,embeddingmodels", OWNED)
    resource = kubectl.get("em", "steady")
    assert resource is not None
    return {
        f"{entry['kind']}/{entry['metadata']['name']}": entry["metadata"]["resourceVersion"]
        for entry in [*found, resource]
    }


def test_a_restart_writes_nothing_and_stops_no_pod(kubectl: Kubectl) -> None:
    kubectl.apply(model("steady", RERANKER))
    kubectl.wait_for_condition("steady", "Ready", "True")
    pods = {pod["metadata"]["uid"] for pod in kubectl.list("pods", OWNED)}
    before = _versions(kubectl)
    operator = kubectl.within(OPERATOR_NAMESPACE)
    operator("rollout", "restart", OPERATOR)
    operator("rollout", "status", OPERATOR, "--timeout=80s")
    # another resource that becomes ready proves that the new operator has been through its queue
    kubectl.apply(model("after", RERANKER))
    kubectl.wait_for_condition("after", "Ready", "True")
    assert _versions(kubectl) == before
    assert {pod["metadata"]["uid"] for pod in kubectl.list("pods", OWNED)} == pods


def test_changes_made_while_it_was_down_are_caught_up_with(kubectl: Kubectl) -> None:
    with scaled_to_zero(kubectl.within(OPERATOR_NAMESPACE), OPERATOR):
        kubectl("scale", "em", "steady", "--replicas=2")
        kubectl("delete", "service", "steady")
        answer = kubectl.answer("http://after/rerank", {"query": "a", "documents": ["b"]})
        assert answer.status == 200, answer.body
    kubectl.wait("the service", lambda: kubectl.get("service", "steady"), 30)
    kubectl.wait("two replicas", lambda: "2/2" in kubectl("get", "em", "steady"))
