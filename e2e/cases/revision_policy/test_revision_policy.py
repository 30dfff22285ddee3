"""A branch that moves is followed where the resource says so, and pinned else (kserve#3557)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from e2e.cases.kubectl import Kubectl, Object, model

MODEL = "acme/moving"
SERVER = Path(__file__).parents[2] / "mirror" / "server.py"
COPY = (
    "mkdir -p /srv/acme && cp -r $(ls -d /mirror-models/*/*/bert-tiny-cross-encoder | head -1) /srv/" + MODEL
)
# fewer tokens: another embedding space, of another commit
SHORTEN = f"sed -i '/model_max_length/s/512/64/' /srv/{MODEL}/tokenizer_config.json"
PAIR = {"query": "a", "documents": ["b"]}


def mirror(name: str, image: str, *commands: str) -> Object:
    """A hub whose branch stands still: moving the Service from one to another moves the branch."""
    serve = "exec python /mirror/server.py --root=/srv --host=0.0.0.0 --port=8081"
    mounts = {"script": "/mirror", "models": "/mirror-models", "repositories": "/srv"}
    container = {
        "name": "mirror",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-ec", "\n".join([*commands, serve])],
        "readinessProbe": {"tcpSocket": {"port": 8081}, "periodSeconds": 1},
        "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in mounts.items()],
    }
    volumes = [
        {"name": "script", "configMap": {"name": "mirror"}},
        {"name": "models", "hostPath": {"path": "/mirror-models", "type": "Directory"}},
        {"name": "repositories", "emptyDir": {}},
    ]
    metadata = {"name": name, "labels": {"app": name}}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container], "volumes": volumes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def hub(kubectl: Kubectl) -> None:
    """Three hubs, behind one address that is the first one's."""
    image = kubectl.runtime_image
    script = {"server.py": SERVER.read_text()}
    port = {"port": 80, "targetPort": 8081}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mirror"}, "data": script},
        mirror("first", image, COPY),
        mirror("second", image, COPY, SHORTEN),
        mirror("empty", image),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "hub"},
            "spec": {"selector": {"app": "first"}, "ports": [port]},
        },
    )
    kubectl("wait", "--for=condition=Ready", "pod/first", "pod/second", "pod/empty", "--timeout=60s")
    kubectl.wait("the hub", lambda: kubectl.request("http://hub/healthz").status == 200, 60)


def move(kubectl: Kubectl, to: str) -> None:
    kubectl("patch", "service", "hub", "--type=merge", "-p", f'{{"spec": {{"selector": {{"app": "{to}"}}}}}}')


def status(kubectl: Kubectl, name: str) -> Any:
    return (kubectl.get("em", name) or {}).get("status", {})


def resource(name: str, **fields: Any) -> Object:
    found = model(name, MODEL, replicas=1)
    found["spec"]["model"] |= {"source": {"hub": {"endpoint": "http://hub"}}} | fields
    return found


def test_a_branch_that_moves_is_followed_and_a_check_that_fails_disturbs_nothing(
    kubectl: Kubectl, hub: None
) -> None:
    kubectl.apply(
        resource("following", revisionPolicy="Follow", revisionCheckInterval="10s"),
        resource("pinned") | {"spec": resource("pinned")["spec"] | {"replicas": 0}},
    )
    kubectl.wait_for_condition("following", "Ready", "True")
    kubectl.wait_for_condition("pinned", "Cached", "True")
    first = status(kubectl, "following")
    assert kubectl.answer("http://following/rerank", PAIR).status == 200

    move(kubectl, "second")
    kubectl.wait(
        "the second commit",
        lambda: status(kubectl, "following")["resolvedRevision"] != first["resolvedRevision"],
    )
    kubectl.wait_for_condition("following", "Ready", "True")
    second = status(kubectl, "following")
    assert second["fingerprint"] != first["fingerprint"]
    assert kubectl.answer("http://following/rerank", PAIR).status == 200

    move(kubectl, "empty")
    condition = kubectl.wait_for_condition("following", "Cached", "True", "CheckFailed", seconds=60)
    assert "main cannot be looked up again" in condition["message"]
    kubectl.wait_for_condition("following", "Ready", "True", seconds=5)
    assert kubectl.request("http://following/rerank", PAIR).status == 200
    assert status(kubectl, "following")["resolvedRevision"] == second["resolvedRevision"]
    assert status(kubectl, "pinned")["resolvedRevision"] == first["resolvedRevision"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"revision": "c" * 40}, "write a branch or a tag in revision"),
        ({"source": {"pvc": {"claimName": "models"}}}, "they have no revision to follow"),
        ({"revisionCheckInterval": "9s"}, "write at least 10s"),
    ],
)
def test_what_cannot_be_followed_is_refused(kubectl: Kubectl, fields: dict[str, Any], words: str) -> None:
    body = model("refused", MODEL)
    body["spec"]["model"] |= {"revisionPolicy": "Follow"} | fields
    told = kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(body), check=False)
    assert words in told
