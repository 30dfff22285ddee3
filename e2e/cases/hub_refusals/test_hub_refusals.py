"""What a hub refuses, or a disk, is told with what to do.

Pain 6, hidden root causes (kthena#1220, kserve#2962); pain 8, a limit by address (aicr#1116, dynamo#874);
pain 9, a cache that turns out too small (kubeai#298).
"""

from __future__ import annotations

from secrets import token_hex
from typing import Any

import pytest

from e2e.cases.hubs import hub
from e2e.cases.kubectl import Kubectl, Object, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
TIGHT = "inference.semantic-explorer.io/model=tight"
# an operator that has heard of a limit remembers it, so each run has an address of its own
LIMITING = f"429/{token_hex(4)}"
DISK = "/var/lib/small-disk"

# A hub that answers every request as the first part of its path says: http://refusing/429
HUB = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWERS = {
    "401": (401, {}),
    "gated": (403, {"X-Error-Code": "GatedRepo"}),
    "429": (429, {"Retry-After": "1800"}),
}

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status, headers = ANSWERS[self.path.split("/")[1]]
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    do_HEAD = do_GET

ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def pod(name: str, image: str, **spec: Any) -> Object:
    """One container, which is ready when it runs."""
    container = {"name": name, "image": image, "imagePullPolicy": "IfNotPresent", **spec.pop("container")}
    metadata = {"name": name, "labels": {"app": name}}
    body = {"terminationGracePeriodSeconds": 1, "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}


@pytest.fixture(scope="module")
def refusing(kubectl: Kubectl) -> None:
    """A hub that refuses."""
    kubectl.apply(*hub("refusing", kubectl.runtime_image, HUB))
    kubectl.wait("the hub", lambda: kubectl.request("http://refusing/401").status == 401, 60)


def fetched_from(path: str, name: str) -> Object:
    found = model(name, RERANKER, replicas=0, cache={"size": "1Gi"})
    found["spec"]["model"]["source"] = {"hub": {"endpoint": f"http://refusing/{path}"}}
    return found


@pytest.mark.parametrize("path", ["401", "gated"])
def test_a_refused_account_is_told_where_a_token_goes(kubectl: Kubectl, refusing: None, path: str) -> None:
    kubectl.apply(fetched_from(path, f"refused-{path}"))
    condition = kubectl.wait_for_condition(f"refused-{path}", "Cached", "False", "AccessDenied")
    assert "spec.model.source.hub.tokenSecretRef" in condition["message"]
    kubectl.wait_for_condition(f"refused-{path}", "Stalled", "True", "AccessDenied", seconds=10)


def test_a_limit_of_the_hub_holds_back_whoever_else_asks_it(kubectl: Kubectl, refusing: None) -> None:
    kubectl.apply(fetched_from(LIMITING, "limited"))
    kubectl.wait_for_condition("limited", "Cached", "False", "RateLimited")
    kubectl.wait(
        "when it is tried again", lambda: "UTC" in kubectl.condition("limited", "Cached")["message"], 10
    )
    kubectl.apply(fetched_from(LIMITING, "behind"))
    condition = kubectl.wait_for_condition("behind", "Cached", "False", "HeldBack", seconds=30)
    assert "UTC" in condition["message"]
    assert [job["metadata"]["labels"]["inference.semantic-explorer.io/model"] for job in jobs(kubectl)].count(
        "behind"
    ) == 0
    # another hub is another matter
    kubectl.apply(model("elsewhere", RERANKER, replicas=0, cache={"size": "1Gi"}))
    kubectl.wait_for_condition("elsewhere", "Cached", "True")


def jobs(kubectl: Kubectl) -> list[Object]:
    return kubectl.list("jobs")


def test_a_full_disk_is_told_and_more_room_mends_it(kubectl: Kubectl) -> None:
    node = sorted(found["metadata"]["name"] for found in kubectl.list("nodes"))[-1]
    disk = {"name": "disk", "hostPath": {"path": DISK, "type": "DirectoryOrCreate"}}
    mount = {"name": "disk", "mountPath": DISK, "mountPropagation": "Bidirectional"}
    mounting = f"mount -t tmpfs -o size=8m,mode=1777 tmpfs {DISK} && sleep infinity"
    kubectl.apply(
        pod(
            "disk",
            kubectl.runtime_image,
            nodeName=node,
            volumes=[disk],
            container={
                "command": ["sh", "-c", mounting],
                "volumeMounts": [mount],
                "securityContext": {"privileged": True, "runAsUser": 0},
                "lifecycle": {"preStop": {"exec": {"command": ["umount", DISK]}}},
            },
        )
    )
    kubectl("wait", "--for=condition=Ready", "pod/disk", "--timeout=60s")
    kubectl("delete", "pv", "small", "--ignore-not-found")  # of a run that was broken off
    kubectl.apply(*volume("small", node))
    kubectl.apply(model("tight", RERANKER, replicas=0, cache={"claimName": "small"}))
    condition = kubectl.wait_for_condition("tight", "Cached", "False", "DiskFull")
    assert "claim small (spec.cache.claimName)" in condition["message"]
    kubectl("exec", "disk", "--", "mount", "-o", "remount,size=64m", DISK)
    kubectl("delete", "job", f"--selector={TIGHT}")
    kubectl.wait_for_condition("tight", "Cached", "True")
    kubectl("delete", "em", "tight")
    kubectl.wait("the Job's pod gone", lambda: not kubectl.list("pods", TIGHT), 60)
    kubectl("delete", "pod", "disk")
    kubectl("delete", "pvc", "small")
    kubectl("delete", "pv", "small")


def volume(name: str, node: str) -> list[Object]:
    """A volume in the small disk, and its claim."""
    size, modes = {"storage": "8Mi"}, ["ReadWriteOnce"]
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    terms = [{"matchExpressions": [expression]}]
    spec = {
        "capacity": size,
        "accessModes": modes,
        "storageClassName": name,
        "hostPath": {"path": DISK},
        "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
    }
    asked = {
        "accessModes": modes,
        "storageClassName": name,
        "volumeName": name,
        "resources": {"requests": size},
    }
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": asked},
    ]
