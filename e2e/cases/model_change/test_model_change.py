"""A changed model is fetched beside the running one; the Service moves when the new one can answer."""

from functools import partial

from e2e.cases.kubectl import Kubectl, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
OWNED = "inference.semantic-explorer.io/model=changing"


def test_the_old_model_answers_until_the_new_one_does(kubectl: Kubectl) -> None:
    kubectl.apply(model("changing", RERANKER))
    kubectl.wait_for_condition("changing", "Ready", "True")
    kubectl.apply(model("changing", MINILM))
    rerank = {"query": "a", "documents": ["b"]}

    def moved() -> bool:
        if kubectl.request("http://changing/embed", {"input": "hello"}).status == 200:
            return True
        assert kubectl.request("http://changing/rerank", rerank).status in (200, 400, 404)
        return False

    kubectl.wait("the new model", moved)
    kubectl.wait_for_condition("changing", "Ready", "True")
    for kind in ("deployments", "persistentvolumeclaims", "jobs"):
        kubectl.wait(f"one of {kind}", partial(_is_single, kubectl, kind), 60)


def test_a_change_to_a_wrong_model_leaves_the_running_one_alone(kubectl: Kubectl) -> None:
    kubectl.apply(model("changing", "acme/no-such-model"))
    condition = kubectl.wait_for_condition("changing", "Cached", "False", "ModelNotFound")
    assert "acme/no-such-model" in condition["message"]
    assert kubectl.condition("changing", "Available")["status"] == "True"
    assert kubectl.request("http://changing/embed", {"input": "hello"}).status == 200


def _is_single(kubectl: Kubectl, kind: str) -> bool:
    return len(kubectl.list(kind, OWNED)) == 1
