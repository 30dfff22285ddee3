"""A model out of a folder on a claim of one's own: no hub and no Secret is needed.

Pain 12, a Secret that is needed without a hub (nim#663, nim#887).
"""

import json

import pytest

from e2e.cases.kubectl import Kubectl, Object, model, prepared

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
MIRROR = "http://hub-mirror.hub-mirror.svc"

FILL = f"""
import json, pathlib, urllib.request
def get(path):
    return urllib.request.urlopen("{MIRROR}" + path, timeout=20).read()
target = pathlib.Path("/data/rerankers/tiny")
for entry in json.loads(get("/api/models/{RERANKER}"))["siblings"]:
    path = target / entry["rfilename"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(get("/{RERANKER}/resolve/main/" + entry["rfilename"]))
closed = pathlib.Path("/data/closed")
closed.mkdir(mode=0o700)
"""
SHORTEN = """
import json, pathlib
path = pathlib.Path("/data/rerankers/tiny/tokenizer_config.json")
path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 64}))
"""


@pytest.fixture(scope="module", autouse=True)
def claim(kubectl: Kubectl) -> None:
    """The resource comes first; then a claim, which a pod of the user's fills as root."""
    kubectl.apply(of_folder("tiny", "rerankers/tiny"))
    condition = kubectl.wait_for_condition("tiny", "Cached", "False", "MissingClaim")
    assert "claim models, which spec.model.source.pvc.claimName names" in condition["message"]
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "models"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
    )
    kubectl.wait_for_condition("tiny", "Cached", "False", "FolderNotFound")
    kubectl.apply(filler(kubectl.runtime_image))
    kubectl("wait", "--for=condition=Ready", "pod/filler", "--timeout=60s")
    kubectl("exec", "filler", "--", "python", "-c", FILL)
    kubectl("delete", "jobs", "--all")  # it would look again by itself, in a minute


def test_what_is_there_now_is_served_as_it_is(kubectl: Kubectl) -> None:
    kubectl.wait_for_condition("tiny", "Ready", "True")
    answer = kubectl.answer("http://tiny/rerank", {"query": "a", "documents": ["b"], "model": RERANKER})
    assert answer.status == 200, answer.body
    status = (kubectl.get("em", "tiny") or {})["status"]
    assert "resolvedRevision" not in status
    assert [found["metadata"]["name"] for found in kubectl.list("pvc")] == ["models"]
    owners = kubectl(
        "exec", "filler", "--", "find", "/data/rerankers", "-not", "-user", "0", "-o", "-not", "-group", "0"
    )
    assert owners == ""


def test_pods_prepare_for_themselves_what_lies_on_a_claim_of_others(kubectl: Kubectl) -> None:
    is_prepared, own = prepared(kubectl, "tiny")
    assert is_prepared
    assert len(own) == 1


def test_a_folder_that_may_not_be_read_is_told_with_who_has_to(kubectl: Kubectl) -> None:
    kubectl.apply(of_folder("closed", "closed"))
    condition = kubectl.wait_for_condition("closed", "Cached", "False", "FolderUnreadable")
    assert "/models/closed" in condition["message"]
    assert "65532" in condition["message"]
    kubectl("delete", "em", "closed")


def test_changed_content_is_never_mixed_in_and_becomes_a_set_of_its_own(kubectl: Kubectl) -> None:
    before = fingerprint(kubectl)
    kubectl("exec", "filler", "--", "python", "-c", SHORTEN)
    pod = kubectl.list("pods", "app.kubernetes.io/component=serving")[0]["metadata"]["name"]
    kubectl("delete", "pod", pod, "--wait=false")
    kubectl.wait("a pod that says why it does not serve", lambda: mismatched(kubectl, pod), 60)
    kubectl("delete", "jobs", "--all")
    kubectl.wait("another fingerprint", lambda: fingerprint(kubectl) != before)
    kubectl.wait_for_condition("tiny", "Ready", "True")
    answer = kubectl.answer("http://tiny/rerank", {"query": "a", "documents": ["b"]})
    assert answer.status == 200, answer.body


def test_the_claim_and_its_content_outlive_the_resource(kubectl: Kubectl) -> None:
    kubectl("delete", "em", "tiny")
    kubectl.wait("its pods gone", lambda: not kubectl.list("pods", "app.kubernetes.io/component=serving"))
    assert kubectl("exec", "filler", "--", "ls", "/data/rerankers").strip() == "tiny"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"source": {"pvc": {"claimName": "m"}, "hub": {}}}, "write one of hub, pvc"),
        ({"source": {"pvc": {"claimName": "m", "path": "../other"}}}, "without . or .."),
        ({"source": {"pvc": {"claimName": "m", "path": "/models"}}}, "from the claim's root"),
        ({"source": {"pvc": {"claimName": "m"}}, "revision": "v1"}, "a folder has none"),
    ],
)
def test_what_a_folder_cannot_be_is_refused(kubectl: Kubectl, spec: Object, words: str) -> None:
    refused = model("refused", RERANKER)
    refused["spec"]["model"] |= spec
    told = kubectl("apply", "-f", "-", stdin=json.dumps(refused), check=False)
    assert words in told


def mismatched(kubectl: Kubectl, gone: str) -> bool:
    """Whether the pod that took the other's place says that its files have another fingerprint."""
    pods = kubectl.list("pods", "app.kubernetes.io/component=serving")
    names = [pod["metadata"]["name"] for pod in pods if pod["metadata"]["name"] != gone]
    return any("FingerprintMismatch" in kubectl("logs", name, check=False) for name in names)


def fingerprint(kubectl: Kubectl) -> str:
    found: str = (kubectl.get("em", "tiny") or {})["status"]["fingerprint"]
    return found


def of_folder(name: str, path: str) -> Object:
    """A resource whose model is in a folder of the claim."""
    found = model(name, RERANKER)
    found["spec"]["model"]["source"] = {"pvc": {"claimName": "models", "path": path}}
    return found


def filler(image: str) -> Object:
    """A pod of the user's that mounts the claim for writing, as root."""
    mount = {"name": "data", "mountPath": "/data"}
    container = {
        "name": "filler",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
        "volumeMounts": [mount],
        "securityContext": {"runAsUser": 0},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "filler"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "models"}}],
        },
    }
