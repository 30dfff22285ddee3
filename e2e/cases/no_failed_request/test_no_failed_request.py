"""No request fails while replicas are changed, for the better or the worse, or become fewer.

Clients keep their connections as usual and try nothing twice.
"""

import json
from typing import Any

import pytest

from e2e.cases.clients import asking, assert_none_failed
from e2e.cases.kubectl import Kubectl, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
RERANK = {"query": "a", "documents": ["b"]}
SERVING = "inference.semantic-explorer.io/model=steady,app.kubernetes.io/component=serving"
DEADLINE = 30


@pytest.fixture(scope="module", autouse=True)
def steady(kubectl: Kubectl) -> None:
    rollout = {"progressDeadlineSeconds": DEADLINE}
    kubectl.apply(model("steady", RERANKER, replicas=2, rollout=rollout))
    kubectl.wait_for_condition("steady", "Ready", "True")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"server": {"logLevel": "debug"}}, id="pod by pod"),
        pytest.param({"model": {"id": RERANKER, "maxLength": 64}}, id="to another space at once"),
    ],
)
def test_a_good_change(kubectl: Kubectl, change: dict[str, Any]) -> None:
    before = _pods(kubectl)
    with asking(kubectl, "steady", "/rerank", RERANK) as asked:
        _change(kubectl, **change)
        kubectl.wait("other pods, and only those", lambda: _are_other(_pods(kubectl), before))
        kubectl.wait_for_condition("steady", "Ready", "True")
    assert_none_failed(asked)


def test_a_bad_change_which_is_rolled_back(kubectl: Kubectl) -> None:
    before = _pods(kubectl)
    with asking(kubectl, "steady", "/rerank", RERANK) as asked:
        _change(kubectl, env=[{"name": "KEEP_ALIVE_SECS", "value": "for ever"}])
        kubectl.wait("a pod that cannot serve", lambda: len(_pods(kubectl)) == 3, 30)
        kubectl.wait_for_condition("steady", "Progressing", "False", "RolledBack", seconds=DEADLINE + 60)
        kubectl.wait("the pods of before alone", lambda: _pods(kubectl) == before, 60)
    assert_none_failed(asked)


def test_one_replica_less(kubectl: Kubectl) -> None:
    with asking(kubectl, "steady", "/rerank", RERANK) as asked:
        kubectl("scale", "embeddingmodel", "steady", "--replicas=1")
        kubectl.wait("one pod", lambda: len(_pods(kubectl)) == 1, 60)
    assert_none_failed(asked)


def test_a_good_change_of_one_replica_where_a_second_fits(kubectl: Kubectl) -> None:
    before = _pods(kubectl)
    with asking(kubectl, "steady", "/rerank", RERANK) as asked:
        _change(kubectl, env=None, server={"logLevel": "info"})
        kubectl.wait("another pod, and only that", lambda: _are_other(_pods(kubectl), before))
        kubectl.wait_for_condition("steady", "Ready", "True")
    assert_none_failed(asked)


def _change(kubectl: Kubectl, **spec: Any) -> None:
    patch = json.dumps({"spec": spec})
    kubectl("patch", "embeddingmodel", "steady", "--type=merge", "--patch", patch)


def _pods(kubectl: Kubectl) -> set[str]:
    """Return the pods that are there, those on their way out included."""
    return {pod["metadata"]["uid"] for pod in kubectl.list("pods", SERVING)}


def _are_other(found: set[str], before: set[str]) -> bool:
    return len(found) == len(before) and not found & before
