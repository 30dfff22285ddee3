"""A volume of one node and several pods: they share a node by a rule, and that is said before anything hangs.

The volume is one that the scheduler may take to any node, as a cloud disk may be: that all pods end up on
one node is our rule's doing, not the volume's.
"""

from collections.abc import Iterator
from functools import partial

import pytest

from e2e.cases.disks import filled_disk
from e2e.cases.kubectl import Kubectl, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
SERVING = "app.kubernetes.io/component=serving"


@pytest.fixture(scope="module", autouse=True)
def disk(kubectl: Kubectl) -> Iterator[None]:
    with filled_disk(kubectl, "disk", RERANKER, "ReadWriteOnce"):
        yield


def test_pods_share_the_node_of_their_volume_and_the_resource_says_so(kubectl: Kubectl) -> None:
    kubectl.apply(model("together", RERANKER, replicas=2, cache={"claimName": "disk"}))
    condition = kubectl.wait_for_condition("together", "Accepted", "True", "OneNode", 20)
    assert "claim disk is ReadWriteOnce: all 2 pods share the one node" in condition["message"]
    kubectl.wait_for_condition("together", "Ready", "True")
    assert len(_nodes(kubectl)) == 1


def test_a_drain_of_that_node_is_not_held_up_for_ever(kubectl: Kubectl) -> None:
    before = {pod["metadata"]["uid"] for pod in kubectl.list("pods", SERVING)}
    (node,) = _nodes(kubectl)
    try:
        kubectl("cordon", node)
        drain = ("drain", node, f"--pod-selector={SERVING}", "--delete-emptydir-data", "--timeout=60s")
        kubectl(*drain)
        kubectl.wait_for_condition("together", "Ready", "True")
        assert not before & {pod["metadata"]["uid"] for pod in kubectl.list("pods", SERVING)}
        (other,) = _nodes(kubectl)
        assert other != node
    finally:
        kubectl("uncordon", node)
    kubectl.wait("a tight budget", partial(_is_tight, kubectl), 10)


def _nodes(kubectl: Kubectl) -> set[str]:
    pods = [pod for pod in kubectl.list("pods", SERVING) if "deletionTimestamp" not in pod["metadata"]]
    return {pod["spec"]["nodeName"] for pod in pods}


def _is_tight(kubectl: Kubectl) -> bool:
    found = kubectl.get("poddisruptionbudget", "together") or {}
    return bool(found.get("spec", {}).get("maxUnavailable") == 1)
