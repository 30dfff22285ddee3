"""The hub goes away and comes back: what serves goes on, what waits says so and then gets its model.

Pain 7, every pod downloads again (kserve#280, #1741, #3869): a pod that starts meanwhile needs no hub.
"""

from e2e.cases.kubectl import MIRROR, MIRROR_NAMESPACE, Kubectl, model, scaled_to_zero

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
RERANKER = "embedding-operator/bert-tiny-cross-encoder"


def test_an_outage_is_told_and_survived(kubectl: Kubectl) -> None:
    kubectl.apply(model("before", RERANKER))
    kubectl.wait_for_condition("before", "Ready", "True")
    with scaled_to_zero(kubectl.within(MIRROR_NAMESPACE), MIRROR):
        kubectl.apply(model("during", MINILM))
        condition = kubectl.wait_for_condition("during", "Cached", "False", "WaitingForHub")
        assert "hub" in condition["message"].lower()
        assert kubectl.condition("during", "Ready")["status"] == "False"
        # a pod that starts now has its model in the cache
        kubectl("delete", "pod", "--selector=inference.semantic-explorer.io/model=before", "--wait=false")
        kubectl.wait_for_condition("before", "Ready", "False", seconds=60)
        kubectl.wait_for_condition("before", "Ready", "True")
    kubectl.wait_for_condition("during", "Ready", "True")
    answer = kubectl.answer("http://during/embed", {"input": "back again"})
    assert answer.status == 200, answer.body
