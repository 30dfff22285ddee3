"""Without spec.cache.size the claim is as large as the files need (kubeai#298: cache size surprises)."""

from e2e.cases.kubectl import Kubectl, Object, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"


def unsized(name: str, id: str) -> Object:
    found = model(name, id, replicas=0)
    del found["spec"]["cache"]
    return found


def test_the_claim_follows_from_the_files_and_the_status_says_how(kubectl: Kubectl) -> None:
    kubectl.apply(unsized("measured", RERANKER))
    kubectl.wait_for_condition("measured", "Cached", "True")
    (claim,) = kubectl.list("pvc")
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"
    found = (kubectl.get("em", "measured") or {})["status"]["cache"]
    assert found["size"] == "1Gi"
    assert "MB times 2.5" in found["sizeReason"]
    kubectl.wait("the one Job that filled it", lambda: len(kubectl.list("jobs")) == 1)


def test_no_claim_is_made_for_a_model_that_is_not_there(kubectl: Kubectl) -> None:
    kubectl.apply(unsized("unknown", "acme/no-such-model"))
    condition = kubectl.wait_for_condition("unknown", "Cached", "False", "ModelNotFound")
    assert "acme/no-such-model" in condition["message"]
    assert kubectl.list("pvc", "inference.semantic-explorer.io/model=unknown") == []
