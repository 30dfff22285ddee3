"""A device that pods get by a resource claim: a driver on one node, and what the scheduler knows of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.cases.kubectl import Kubectl, Object

DRIVER = "pretended.example.com"
VARIABLE = "PRETENDED_DEVICE"
TEMPLATE = "one-device"
SOURCE = Path(__file__).parents[1] / "fixtures/dra_driver.py"
RESOURCE_API = "resource.k8s.io/v1"


@contextmanager
def pretended_device(kubectl: Kubectl) -> Iterator[str]:
    """Offer one device on the last worker and a ResourceClaimTemplate for it; return the node's name."""
    node = sorted(found["metadata"]["name"] for found in kubectl.list("nodes"))[-1]
    kubectl.apply(*_driver(kubectl.runtime_image, node))
    kubectl.wait("a registered driver", lambda: "registered" in kubectl("logs", "driver", check=False), 60)
    kubectl.apply(*_offer(node))
    yield node
    kubectl("delete", "resourceslice,deviceclass", DRIVER)


def _driver(image: str, node: str) -> list[Object]:
    """The driver's pod: it writes where kubelet and container runtime look, so it is root on the node."""
    folders = {"kubelet": "/var/lib/kubelet", "cdi": "/var/run/cdi"}
    volumes: list[Object] = [
        {"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}}
        for name, path in folders.items()
    ]
    mounts = [{"name": name, "mountPath": path} for name, path in folders.items()]
    container = {
        "name": "driver",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", f"/source/{SOURCE.name}", DRIVER, folders["kubelet"]],
        "securityContext": {"runAsUser": 0, "privileged": True},
        "volumeMounts": [*mounts, {"name": "source", "mountPath": "/source"}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "driver"},
        "spec": {
            "nodeName": node,
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
            "volumes": [*volumes, {"name": "source", "configMap": {"name": "driver"}}],
        },
    }
    data = {SOURCE.name: SOURCE.read_text()}
    source = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "driver"}, "data": data}
    return [source, pod]


def _offer(node: str) -> list[Object]:
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    request = {"name": "device", "exactly": {"deviceClassName": DRIVER}}
    return [
        {
            "apiVersion": RESOURCE_API,
            "kind": "DeviceClass",
            "metadata": {"name": DRIVER},
            "spec": {"selectors": [{"cel": {"expression": f'device.driver == "{DRIVER}"'}}]},
        },
        {
            "apiVersion": RESOURCE_API,
            "kind": "ResourceSlice",
            "metadata": {"name": DRIVER},
            "spec": {"driver": DRIVER, "nodeName": node, "pool": pool, "devices": [{"name": "device-0"}]},
        },
        {
            "apiVersion": RESOURCE_API,
            "kind": "ResourceClaimTemplate",
            "metadata": {"name": TEMPLATE},
            "spec": {"spec": {"devices": {"requests": [request]}}},
        },
    ]
