"""A cluster without shared storage: pods on two nodes, each with the model in a volume of its own."""

from __future__ import annotations

import json
from functools import partial

import pytest

from e2e.cases.kubectl import Kubectl, Object, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
SERVING = "app.kubernetes.io/component=serving"
OWN = {"mode": "PerReplica"}


@pytest.fixture(scope="module", autouse=True)
def hub(kubectl: Kubectl) -> None:
    """A way to the hub of the case's own, which can be cut."""
    ports = [{"name": "http", "port": 80, "targetPort": 8081, "protocol": "TCP"}]
    metadata = {"name": "hub"}
    kubectl.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}})
    kubectl.apply(_way(kubectl))
    kubectl.wait("the hub", lambda: kubectl.request(f"http://hub/api/models/{RERANKER}").status == 200)


def test_two_nodes_serve_without_a_claim(kubectl: Kubectl) -> None:
    found = model("own", RERANKER, replicas=2)
    found["spec"]["cache"] = OWN
    found["spec"]["model"]["source"] = {"hub": {"endpoint": "http://hub"}}
    kubectl.apply(found)
    kubectl.wait_for_condition("own", "Ready", "True")
    answer = kubectl.answer("http://own/rerank", {"query": "a", "documents": ["b"]})
    assert answer.status == 200, answer.body
    assert kubectl.list("pvc") == []
    nodes = {pod["spec"]["nodeName"] for pod in kubectl.list("pods", SERVING)}
    assert len(nodes) == 2


def test_a_pod_that_cannot_fetch_says_why_and_goes_on_by_itself(kubectl: Kubectl) -> None:
    before = kubectl.list("pods", SERVING)
    kubectl("delete", "endpointslice", "hub")
    kubectl("delete", "pod", before[0]["metadata"]["name"], "--wait=false")
    condition = kubectl.wait_for_condition("own", "Ready", "False", "HubUnreachable", 60)
    assert "spec.model.source.hub" in condition["message"]
    available = kubectl.condition("own", "Available")
    assert (available["status"], "1 of 2 pods" in available["message"]) == ("True", True)
    assert kubectl.answer("http://own/rerank", {"query": "a", "documents": ["b"]}).status == 200
    kubectl.apply(_way(kubectl))
    kubectl.wait_for_condition("own", "Ready", "True")


def test_a_class_gives_each_pod_a_claim_that_goes_with_it(kubectl: Kubectl) -> None:
    kubectl("delete", "em", "own")
    kubectl.apply(model("claimed", RERANKER, cache=OWN | {"storageClassName": "standard", "size": "1Gi"}))
    kubectl.wait_for_condition("claimed", "Ready", "True")
    (claim,) = kubectl.list("pvc")
    assert claim["metadata"]["ownerReferences"][0]["kind"] == "Pod"
    kubectl("delete", "em", "claimed")
    kubectl.wait("no claim", partial(_nothing, kubectl), 60)


@pytest.mark.parametrize(
    ("cache", "words"),
    [
        ({"claimName": "mine"}, "leave claimName out of mode PerReplica"),
        ({"retention": "Retain"}, "leave retention out of mode PerReplica"),
        ({"storageClassName": "standard"}, "write the size of the claim that each pod gets"),
        ({"accessMode": "ReadWriteMany"}, "leave accessMode out of mode PerReplica"),
    ],
)
def test_what_a_volume_of_a_pods_own_cannot_be_is_refused(
    kubectl: Kubectl, cache: Object, words: str
) -> None:
    refused = model("refused", RERANKER)
    refused["spec"]["cache"] = OWN | cache
    assert words in kubectl("apply", "-f", "-", stdin=json.dumps(refused), check=False)


def _nothing(kubectl: Kubectl) -> bool:
    return not kubectl.list("pvc")


def _way(kubectl: Kubectl) -> Object:
    """The mirror's pod as what the Service hub leads to."""
    (mirror,) = kubectl.within("hub-mirror").list("pods")
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "hub", "labels": {"kubernetes.io/service-name": "hub"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8081, "protocol": "TCP"}],
        "endpoints": [{"addresses": [mirror["status"]["podIP"]], "conditions": {"ready": True}}],
    }
