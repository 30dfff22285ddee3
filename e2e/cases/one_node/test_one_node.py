"""A volume of one node and several pods: they share a node by a rule, and that is said before anything hangs.

The volume is one that the scheduler may take to any node, as a cloud disk may be: that all pods end up on
one node is our rule's doing, not the volume's.
"""

from collections.abc import Iterator
from functools import partial

import pytest

from e2e.cases.kubectl import Kubectl, Object, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
SERVING = "app.kubernetes.io/component=serving"
FOLDER = "/var/local/case-one-node"
VOLUME = "case-one-node"
FILL = "chmod 777 /models && exec python -m embedding_runtime prefetch " + RERANKER


@pytest.fixture(scope="module", autouse=True)
def disk(kubectl: Kubectl) -> Iterator[None]:
    """A claim for a folder that is there on both workers, with the model in it."""
    workers = [node["metadata"]["name"] for node in kubectl.list("nodes", "!" + CONTROL_PLANE)]
    kubectl.apply(*(_filler(kubectl, worker) for worker in workers))
    kubectl.apply(_volume(), _claim())
    kubectl(
        "wait", "--for=jsonpath={.status.phase}=Succeeded", "pods", "--selector=case=filler", "--timeout=60s"
    )
    yield
    kubectl("delete", "embeddingmodels,pods", "--all", "--timeout=60s")
    kubectl("delete", "pvc", "disk", "--timeout=60s")
    kubectl("delete", "persistentvolume", VOLUME, "--timeout=60s")


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


def _filler(kubectl: Kubectl, node: str) -> Object:
    env = {"HF_HOME": "/models", "HF_ENDPOINT": "http://hub-mirror.hub-mirror.svc"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"fill-{node}", "labels": {"case": "filler"}},
        "spec": {
            "nodeName": node,
            "restartPolicy": "OnFailure",
            "securityContext": {"runAsUser": 0},
            "containers": [
                {
                    "name": "fill",
                    "image": kubectl.runtime_image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", FILL],
                    "env": [{"name": name, "value": value} for name, value in env.items()],
                    "volumeMounts": [{"name": "models", "mountPath": "/models"}],
                }
            ],
            "volumes": [{"name": "models", "hostPath": {"path": FOLDER, "type": "DirectoryOrCreate"}}],
        },
    }


def _volume() -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": VOLUME},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": FOLDER, "type": "Directory"},
        },
    }


def _claim() -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "disk"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "volumeName": VOLUME,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
