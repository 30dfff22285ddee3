"""Nodes are drained one after the other, as for their upgrade: pods take turns, and no request fails.

Clients keep their connections as usual and try nothing twice. The claim can be mounted on both nodes.
"""

from collections.abc import Iterator

import pytest

from e2e.cases.clients import asking, assert_none_failed
from e2e.cases.disks import CONTROL_PLANE, filled_disk
from e2e.cases.kubectl import Kubectl, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
# a machine that is busy with everything else may take long to start a pod
PATIENT = {"shutdownTimeoutSeconds": 60}
SERVING = "inference.semantic-explorer.io/model=moving,app.kubernetes.io/component=serving"


@pytest.fixture(scope="module", autouse=True)
def moving(kubectl: Kubectl) -> Iterator[None]:
    with filled_disk(kubectl, "shared", RERANKER, "ReadWriteMany"):
        kubectl.apply(model("moving", RERANKER, replicas=2, cache={"claimName": "shared"}, server=PATIENT))
        kubectl.wait_for_condition("moving", "Ready", "True")
        yield


def test_no_request_fails_while_the_nodes_are_drained_in_turn(kubectl: Kubectl) -> None:
    workers = [node["metadata"]["name"] for node in kubectl.list("nodes", "!" + CONTROL_PLANE)]
    assert sorted(_nodes(kubectl)) == sorted(workers), "the pods are not spread over the nodes"
    with asking(kubectl, "moving", "/rerank", {"query": "a", "documents": ["b"]}) as asked:
        # the second of them has both pods by then: the budget makes one wait for the other's successor
        for worker in workers:
            _drain(kubectl, worker)
    assert_none_failed(asked)


def test_no_request_fails_while_the_only_pod_is_drained(kubectl: Kubectl) -> None:
    kubectl("scale", "embeddingmodel", "moving", "--replicas=1")
    kubectl.wait("one pod", lambda: len(_nodes(kubectl)) == 1, 60)
    (node,) = _nodes(kubectl)
    with asking(kubectl, "moving", "/rerank", {"query": "a", "documents": ["b"]}) as asked:
        _drain(kubectl, node)
    assert_none_failed(asked)


def _drain(kubectl: Kubectl, node: str) -> None:
    try:
        kubectl("drain", node, f"--pod-selector={SERVING}", "--delete-emptydir-data", "--timeout=80s")
        kubectl.wait("no pod on the node", lambda: node not in _nodes(kubectl), 60)
        kubectl.wait_for_condition("moving", "Ready", "True")
    finally:
        kubectl("uncordon", node)


def _nodes(kubectl: Kubectl) -> list[str]:
    """Return the node of each pod that is there, also of those on their way out."""
    return [pod["spec"].get("nodeName", "") for pod in kubectl.list("pods", SERVING)]
