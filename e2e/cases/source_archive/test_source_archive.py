"""A model out of an archive on a file server in the cluster, which may ask for a token."""

from __future__ import annotations

import json

import pytest

from e2e.cases.kubectl import Kubectl, Object, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
TOKEN = "open-sesame"

# Packs a model of the mirror's into a tar.gz, and serves it: at /open/... to all, at /closed/... for a token.
SERVER = (
    f"""
MODEL = "http://hub-mirror.hub-mirror.svc.cluster.local/{RERANKER}/resolve/main/"
TOKEN = "{TOKEN}"
"""
    + """
import hashlib, io, tarfile, time, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAMES = ("config.json", "tokenizer.json", "tokenizer_config.json", "onnx/model.onnx")
packed = io.BytesIO()
with tarfile.open(fileobj=packed, mode="w:gz") as archive:
    for name in NAMES:
        content = urllib.request.urlopen(MODEL + name, timeout=30).read()
        entry = tarfile.TarInfo("tiny/" + name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
packed = packed.getvalue()

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        closed = self.path.startswith("/closed/")
        if closed and self.headers.get("Authorization") != "Bearer " + TOKEN:
            return self.answer(401, b"")
        bodies = {"sha256": hashlib.sha256(packed).hexdigest().encode(), "tiny.tar.gz": packed}
        body = bodies.get(self.path.rpartition("/")[2])
        self.answer(200 if body else 404, body or b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
)


@pytest.fixture(scope="module")
def sha256(kubectl: Kubectl) -> str:
    """The digest of the archive on a file server."""
    container = {
        "name": "files",
        "image": kubectl.runtime_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", SERVER],
    }
    spec = {"selector": {"app": "files"}, "ports": [{"port": 80, "targetPort": 8080}]}
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "files", "labels": {"app": "files"}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "files"}, "spec": spec},
    )

    def digest() -> str | None:
        answer = kubectl.request("http://files/open/sha256")
        return str(answer.body) if answer.status == 200 else None

    return kubectl.wait("the archive's digest", digest)


def of_archive(kubectl: Kubectl, name: str, path: str, sha256: str, **spec: object) -> Object:
    found = model(name, RERANKER, cache={"size": "1Gi"}, **spec)
    url = f"http://files.{kubectl.namespace}.svc.cluster.local/{path}"
    found["spec"]["model"]["source"] = {"url": {"url": url, "sha256": sha256, "path": "tiny"}}
    return found


def test_only_the_file_with_the_digest_is_served(kubectl: Kubectl, sha256: str) -> None:
    kubectl.apply(of_archive(kubectl, "tiny", "open/tiny.tar.gz", "0" * 64))
    condition = kubectl.wait_for_condition("tiny", "Cached", "False", "DigestMismatch")
    assert sha256 in condition["message"]
    assert "spec.model.source.url.sha256" in condition["message"]
    kubectl.wait_for_condition("tiny", "Stalled", "True", "DigestMismatch", seconds=10)
    kubectl.apply(of_archive(kubectl, "tiny", "open/tiny.tar.gz", sha256))
    kubectl.wait_for_condition("tiny", "Ready", "True")
    answer = kubectl.answer("http://tiny/rerank", {"query": "a", "documents": ["b"], "model": RERANKER})
    assert answer.status == 200, answer.body
    status = (kubectl.get("em", "tiny") or {})["status"]
    assert "resolvedRevision" not in status
    assert f"/models/archives/{sha256}/tiny" in kubectl.condition("tiny", "Cached")["message"]


def test_another_address_of_the_same_file_changes_nothing(kubectl: Kubectl, sha256: str) -> None:
    before = {found["metadata"]["uid"] for kind in ("jobs", "pods") for found in kubectl.list(kind)}
    moved = of_archive(kubectl, "tiny", "open/moved/tiny.tar.gz", sha256)
    kubectl.apply(moved)
    generation = (kubectl.get("em", "tiny") or {})["metadata"]["generation"]

    def observed() -> bool:
        status = (kubectl.get("em", "tiny") or {})["status"]
        return bool(status["observedGeneration"] == generation)

    kubectl.wait("the change seen", observed, 20)
    assert {found["metadata"]["uid"] for kind in ("jobs", "pods") for found in kubectl.list(kind)} == before
    kubectl("delete", "em", "tiny")


def test_a_token_opens_what_is_closed_and_stays_in_its_secret(kubectl: Kubectl, sha256: str) -> None:
    closed = of_archive(kubectl, "closed", "closed/tiny.tar.gz", sha256, replicas=0)
    kubectl.apply(closed)
    condition = kubectl.wait_for_condition("closed", "Cached", "False", "AccessDenied")
    assert "spec.model.source.url.tokenSecretRef" in condition["message"]
    closed["spec"]["model"]["source"]["url"]["tokenSecretRef"] = {"name": "files", "key": "token"}
    kubectl.apply(closed)
    condition = kubectl.wait_for_condition("closed", "Cached", "False", "MissingSecret")
    assert "Secret files with key token" in condition["message"]
    kubectl("create", "secret", "generic", "files", f"--from-literal=token={TOKEN}")
    kubectl.wait_for_condition("closed", "Cached", "True")
    ours = ("--selector", "inference.semantic-explorer.io/model=closed")
    told = [kubectl("get", "jobs,pods", *ours, "-o", "yaml"), kubectl("logs", *ours)]
    told += [kubectl("get", "em,events", "-o", "yaml")]
    assert [text for text in told if TOKEN in text] == []


def test_pods_with_a_volume_each_unpack_it_for_themselves(kubectl: Kubectl, sha256: str) -> None:
    own = of_archive(kubectl, "own", "closed/tiny.tar.gz", sha256, replicas=1)
    own["spec"]["cache"] = {"mode": "PerReplica"}
    own["spec"]["model"]["source"]["url"]["tokenSecretRef"] = {"name": "files", "key": "token"}
    kubectl.apply(own)
    kubectl.wait_for_condition("own", "Ready", "True")
    assert kubectl.answer("http://own/rerank", {"query": "a", "documents": ["b"]}).status == 200
    kubectl("delete", "em", "own")


def test_what_is_missing_is_told_by_its_address(kubectl: Kubectl, sha256: str) -> None:
    kubectl.apply(of_archive(kubectl, "missing", "open/other.tar.gz", sha256, replicas=0))
    condition = kubectl.wait_for_condition("missing", "Cached", "False", "ModelNotFound")
    assert "Correct spec.model.source.url.url" in condition["message"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"url": {"url": "https://f.example/a.tar"}}, "sha256"),
        ({"url": {"url": "https://f.example/a.tar", "sha256": "A" * 64}}, "lower-case hexadecimal"),
        ({"url": {"url": "https://u:p@f.example/a.tar", "sha256": "0" * 64}}, "without a user"),
        ({"url": {"url": "https://f.example/a.tar?sig=x", "sha256": "0" * 64}}, "tokenSecretRef"),
        ({"url": {"url": "https://f.example/a", "sha256": "0" * 64, "path": "../b"}}, "without . or .."),
        ({"url": {"url": "https://f.example/a", "sha256": "0" * 64}, "hub": {}}, "write one of hub, pvc"),
    ],
)
def test_what_an_archive_cannot_be_is_refused(kubectl: Kubectl, source: Object, words: str) -> None:
    refused = model("refused", RERANKER)
    refused["spec"]["model"]["source"] = source
    told = kubectl("apply", "-f", "-", stdin=json.dumps(refused), check=False)
    assert words in told
