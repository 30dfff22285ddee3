"""Deleting the resource deletes all that it owns, the cache too, also while the operator is down.

Pain 14, a foreground deletion that becomes a loop of making things again (nim#594).
"""

import pytest

from e2e.cases.kubectl import OPERATOR, OPERATOR_NAMESPACE, Kubectl, model, scaled_to_zero

KINDS = "deployments,replicasets,jobs,pods,persistentvolumeclaims,services"
RERANKER = "embedding-operator/bert-tiny-cross-encoder"


def _left(kubectl: Kubectl, name: str) -> list[str]:
    found = kubectl.list(KINDS, f"inference.semantic-explorer.io/model={name}")
    return [f"{entry['kind']}/{entry['metadata']['name']}" for entry in found]


@pytest.mark.parametrize("policy", ["background", "foreground"])
def test_everything_goes_and_stays_gone(kubectl: Kubectl, policy: str) -> None:
    kubectl.apply(model(policy, RERANKER))
    kubectl.wait_for_condition(policy, "Ready", "True")
    assert len(_left(kubectl, policy)) >= 5
    kubectl("delete", "em", policy, f"--cascade={policy}", "--timeout=60s")
    kubectl.wait("nothing left", lambda: not _left(kubectl, policy), 60)


def test_a_resource_can_be_deleted_while_the_operator_is_down(kubectl: Kubectl) -> None:
    kubectl.apply(model("orphan", RERANKER))
    kubectl.wait_for_condition("orphan", "Ready", "True")
    with scaled_to_zero(kubectl.within(OPERATOR_NAMESPACE), OPERATOR):
        kubectl("delete", "em", "orphan", "--timeout=30s")
        kubectl.wait("nothing left", lambda: not _left(kubectl, "orphan"), 60)


def test_deleting_during_the_download_leaves_nothing(kubectl: Kubectl) -> None:
    kubectl.apply(model("early", "sentence-transformers/all-MiniLM-L6-v2"))
    kubectl.wait("a job", lambda: kubectl.list("jobs", "inference.semantic-explorer.io/model=early"), 30)
    kubectl("delete", "em", "early", "--timeout=30s")
    kubectl.wait("nothing left", lambda: not _left(kubectl, "early"), 60)
