"""A model id that does not exist: said once, in words that name it, and no crash loop."""

import time

from e2e.cases.kubectl import Kubectl, model

WRONG = "sentence-transformers/no-such-model"


def test_the_condition_says_404_and_the_id_and_nothing_loops(kubectl: Kubectl) -> None:
    kubectl.apply(model("wrong", WRONG))
    condition = kubectl.wait_for_condition("wrong", "Cached", "False", "ModelNotFound")
    assert "404" in condition["message"]
    assert WRONG in condition["message"]
    assert kubectl.condition("wrong", "Ready")["reason"] == "ModelNotFound"
    assert "ModelNotFound" in kubectl("get", "em", "wrong")
    pods = {pod["metadata"]["name"] for pod in kubectl.list("pods", "job-name")}
    events = _events(kubectl)
    assert len(pods) == 1
    time.sleep(15)  # longer than the first back-off of a Job, so that a loop would show
    assert {pod["metadata"]["name"] for pod in kubectl.list("pods", "job-name")} == pods
    assert _events(kubectl) == events


def test_the_right_id_makes_it_ready(kubectl: Kubectl) -> None:
    kubectl.apply(model("wrong", "embedding-operator/bert-tiny-cross-encoder"))
    kubectl.wait_for_condition("wrong", "Ready", "True")
    answer = kubectl.answer("http://wrong/rerank", {"query": "a", "documents": ["b"]})
    assert answer.status == 200, answer.body


def _events(kubectl: Kubectl) -> list[str]:
    return [
        event["reason"]
        for event in kubectl.list("events")
        if event.get("involvedObject", {}).get("kind") == "EmbeddingModel"
    ]
