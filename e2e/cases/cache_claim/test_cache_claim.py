"""A claim outlives its resource, two resources share one.

Pain 7, everything downloads again (kserve#280, #1741, #3869).
"""

from e2e.cases.kubectl import Kubectl, Object, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"


def test_a_retained_claim_outlives_its_resource_and_is_used_again(kubectl: Kubectl) -> None:
    kubectl.apply(model("kept", RERANKER, replicas=0, cache={"size": "1Gi", "retention": "Retain"}))
    kubectl.wait_for_condition("kept", "Cached", "True")
    (claim,) = kubectl.list("pvc")
    kubectl("delete", "em", "kept")
    kubectl.wait("the Job gone", lambda: not kubectl.list("jobs") and not kubectl.list("pods", "job-name"))
    assert [found["metadata"]["uid"] for found in kubectl.list("pvc")] == [claim["metadata"]["uid"]]
    kubectl.apply(model("kept", RERANKER, replicas=0, cache={"size": "1Gi", "retention": "Retain"}))
    kubectl.wait_for_condition("kept", "Cached", "True")
    assert [found["metadata"]["uid"] for found in kubectl.list("pvc")] == [claim["metadata"]["uid"]]


def test_a_claim_that_is_no_longer_to_be_retained_goes_with_its_resource(kubectl: Kubectl) -> None:
    kubectl.apply(model("kept", RERANKER, replicas=0, cache={"size": "1Gi", "retention": "Delete"}))
    kubectl.wait("an owner", lambda: kubectl.list("pvc")[0]["metadata"].get("ownerReferences"))
    kubectl.wait_for_condition("kept", "Cached", "True")
    kubectl("delete", "em", "kept")
    kubectl.wait("the claim gone", lambda: not kubectl.list("pvc"))


def test_two_resources_share_a_claim_that_is_nobodys(kubectl: Kubectl) -> None:
    shared = {"claimName": "models"}
    kubectl.apply(*(model(name, RERANKER, replicas=1, cache=shared) for name in ("one", "two")))
    for name in ("one", "two"):
        condition = kubectl.wait_for_condition(name, "Cached", "False", "MissingClaim")
        assert "claim models, which spec.cache.claimName names" in condition["message"]
    kubectl.apply(claim("models"))
    for name in ("one", "two"):
        kubectl.wait_for_condition(name, "Ready", "True")
    made = kubectl.list("pvc")
    assert [found["metadata"]["name"] for found in made] == ["models"]
    assert "ownerReferences" not in made[0]["metadata"]
    kubectl("delete", "em", "one")
    kubectl.wait("the pods of one gone", lambda: not kubectl.list("pods", selector("one")))
    assert kubectl.answer("http://two/rerank", {"query": "a", "documents": ["b"]}).status == 200
    assert kubectl.list("pvc")


def claim(name: str) -> Object:
    """A claim as somebody makes it who knows nothing of the operator."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }


def selector(name: str) -> str:
    """The label selector of everything that belongs to a resource."""
    return f"inference.semantic-explorer.io/model={name}"
