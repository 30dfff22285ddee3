"""An image with a model's files, made on each worker: busybox's, and a layer more. There is no registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from e2e.cases.kubectl import Kubectl, Object

WORKERS = "!node-role.kubernetes.io/control-plane"

# runs as root in a pod of the node; the archives are in the node's own /tmp, where its containerd reads them
MAKE = """
import gzip, hashlib, io, json, pathlib, platform, subprocess, sys, tarfile, urllib.request

model, reference, folder = sys.argv[1:]
temporary = pathlib.Path("/proc/1/root/tmp")
hub = "http://hub-mirror.hub-mirror.svc"
blobs = {}

def ctr(*arguments):
    subprocess.run(["nsenter", "-t", "1", "-m", "ctr", "-n", "k8s.io", "images", *arguments], check=True)

def get(path):
    return urllib.request.urlopen(hub + path, timeout=20).read()

def put(data):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    blobs[digest] = data
    return {"digest": digest, "size": len(data)}

def add(tar, name, data):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    tar.addfile(entry, io.BytesIO(data))

layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as tar:
    for sibling in json.loads(get("/api/models/" + model))["siblings"]:
        name = sibling["rfilename"]
        add(tar, folder + "/" + name, get("/" + model + "/resolve/main/" + name))
files = layer.getvalue()
machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
ctr("export", "--platform", "linux/" + machine, "/tmp/base.tar", "docker.io/library/busybox:1.35")
with tarfile.open(temporary / "base.tar") as tar:
    for member in tar:
        if member.isfile() and member.name.startswith("blobs/sha256/"):
            put(tar.extractfile(member).read())
    index = json.load(tar.extractfile("index.json"))
manifest = json.loads(blobs[index["manifests"][0]["digest"]])
if "manifests" in manifest:
    manifest = json.loads(blobs[manifest["manifests"][0]["digest"]])
config = json.loads(blobs[manifest["config"]["digest"]])
config.pop("history", None)
config["rootfs"]["diff_ids"].append("sha256:" + hashlib.sha256(files).hexdigest())
manifest["config"] |= put(json.dumps(config).encode())
kind = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}
manifest["layers"].append(kind | put(gzip.compress(files, 1, mtime=0)))
made = {"mediaType": manifest["mediaType"], "annotations": {"io.containerd.image.name": reference}}
index = {"schemaVersion": 2, "manifests": [made | put(json.dumps(manifest).encode())]}
with tarfile.open(temporary / "model.tar", "w") as tar:
    add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    add(tar, "index.json", json.dumps(index).encode())
    for name, data in blobs.items():
        add(tar, "blobs/" + name.replace(":", "/"), data)
ctr("import", "/tmp/model.tar")
ctr("label", reference, "io.cri-containerd.image=managed")
for name in ("base.tar", "model.tar"):
    (temporary / name).unlink()
"""


@contextmanager
def image(kubectl: Kubectl, reference: str, model: str, folder: str) -> Iterator[None]:
    """Have an image with a model's files in this folder on both workers."""
    workers = [node["metadata"]["name"] for node in kubectl.list("nodes", WORKERS)]
    kubectl.apply(*(_root_of(node, kubectl.runtime_image) for node in workers))
    kubectl("wait", "--for=condition=Ready", "pods", "--selector=case=image", "--timeout=60s")
    for node in workers:
        kubectl("exec", f"image-{node}", "--", "python", "-c", MAKE, model, reference, folder)
    yield
    for node in workers:
        remove = ["nsenter", "-t", "1", "-m", "ctr", "-n", "k8s.io", "images", "rm", reference]
        kubectl("exec", f"image-{node}", "--", *remove)


def _root_of(node: str, image: str) -> Object:
    """A pod that may do on its node what root may."""
    container = {
        "name": "root",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
        "securityContext": {"privileged": True, "runAsUser": 0},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"image-{node}", "labels": {"case": "image"}},
        "spec": {
            "nodeName": node,
            "hostPID": True,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
        },
    }
