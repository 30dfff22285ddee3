"""What its user stops: a suspended resource has no pods and keeps its cache, a paused one is left alone."""

import pytest

from e2e.cases.kubectl import Kubectl, model

OWNED = "inference.semantic-explorer.io/model=resting"
SERVING = f"{OWNED},app.kubernetes.io/component=serving"
PAUSED = "inference.semantic-explorer.io/paused"
RERANK = {"query": "a", "documents": ["b"]}


@pytest.fixture(scope="module", autouse=True)
def resting(kubectl: Kubectl) -> None:
    kubectl.apply(model("resting", "embedding-operator/bert-tiny-cross-encoder"))
    kubectl.wait_for_condition("resting", "Ready", "True")


def test_a_suspended_resource_has_no_pods_and_comes_back_from_its_cache(kubectl: Kubectl) -> None:
    kept = {kind: _uids(kubectl, kind) for kind in ("persistentvolumeclaims", "services", "jobs")}
    _suspend(kubectl, "true")
    kubectl.wait_for_condition("resting", "Ready", "False", "Suspended", seconds=10)
    kubectl.wait("no pods", lambda: not kubectl.list("pods", SERVING), 90)
    kubectl.wait_for_condition("resting", "Progressing", "False", "Suspended", seconds=30)
    assert kubectl.condition("resting", "Cached")["status"] == "True"
    assert kubectl.request("http://resting/rerank", RERANK).status == 0
    _suspend(kubectl, "false")
    kubectl.wait_for_condition("resting", "Ready", "True")
    assert kubectl.answer("http://resting/rerank", RERANK).status == 200
    assert {kind: _uids(kubectl, kind) for kind in kept} == kept


def test_a_paused_resource_is_left_as_others_make_it(kubectl: Kubectl) -> None:
    kubectl("annotate", "embeddingmodel", "resting", f"{PAUSED}=true")
    kubectl.wait_for_condition("resting", "Progressing", "False", "Paused", seconds=10)
    assert PAUSED in kubectl.condition("resting", "Ready")["message"]
    (before,) = kubectl.list("services", OWNED)
    kubectl("delete", "service", "resting")
    # the status tells that the event of the deletion has come and was acted on: by nothing
    kubectl.wait_for_condition("resting", "Available", "False", seconds=10)
    assert kubectl.get("service", "resting") is None
    kubectl("annotate", "embeddingmodel", "resting", f"{PAUSED}-")
    after = kubectl.wait("the Service", lambda: kubectl.get("service", "resting"), 10)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    kubectl.wait_for_condition("resting", "Ready", "True", seconds=30)


def _suspend(kubectl: Kubectl, value: str) -> None:
    patch = f'{{"spec": {{"suspend": {value}}}}}'
    kubectl("patch", "embeddingmodel", "resting", "--type=merge", "--patch", patch)


def _uids(kubectl: Kubectl, kind: str) -> set[str]:
    return {entry["metadata"]["uid"] for entry in kubectl.list(kind, OWNED)}
