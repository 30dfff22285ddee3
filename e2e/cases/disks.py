"""A claim for a folder that every worker has, with a model in it: a shared file system, as pods see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from e2e.cases.kubectl import Kubectl, Object

CONTROL_PLANE = "node-role.kubernetes.io/control-plane"


@contextmanager
def filled_disk(kubectl: Kubectl, claim: str, model: str, access_mode: str) -> Iterator[None]:
    """Make the claim, with the model in it; at the end nothing that could mount it is left."""
    name = kubectl.namespace
    folder = f"/var/local/{name}"
    workers = [node["metadata"]["name"] for node in kubectl.list("nodes", "!" + CONTROL_PLANE)]
    kubectl.apply(*(_filler(kubectl, worker, folder, model) for worker in workers))
    kubectl.apply(*_disk(name, folder, claim, access_mode))
    filled = "--for=jsonpath={.status.phase}=Succeeded"
    kubectl("wait", filled, "pods", "--selector=case=filler", "--timeout=60s")
    try:
        yield
    finally:
        kubectl("delete", "embeddingmodels,pods", "--all", "--timeout=60s")
        kubectl("delete", "pvc", claim, "--timeout=60s")
        kubectl("delete", "persistentvolume", name, "--timeout=60s")


def _filler(kubectl: Kubectl, node: str, folder: str, model: str) -> Object:
    env = {"HF_HOME": "/models", "HF_ENDPOINT": "http://hub-mirror.hub-mirror.svc"}
    command = f"chmod 777 /models && exec python -m embedding_runtime prefetch {model}"
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
                    "command": ["sh", "-c", command],
                    "env": [{"name": name, "value": value} for name, value in env.items()],
                    "volumeMounts": [{"name": "models", "mountPath": "/models"}],
                }
            ],
            "volumes": [{"name": "models", "hostPath": {"path": folder, "type": "DirectoryOrCreate"}}],
        },
    }


def _disk(volume: str, folder: str, claim: str, access_mode: str) -> tuple[Object, Object]:
    common = {"accessModes": [access_mode], "storageClassName": ""}
    return (
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                **common,
                "capacity": {"storage": "1Gi"},
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": folder, "type": "Directory"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim},
            "spec": {**common, "volumeName": volume, "resources": {"requests": {"storage": "1Gi"}}},
        },
    )
