"""A branch is resolved once: what serves stays at its commit when the branch moves.

Pain 13, a revision that cannot be pinned (kserve#3557).
"""

from e2e.cases.hubs import hub
from e2e.cases.kubectl import Kubectl, Object, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
BEFORE, AFTER = "a" * 40, "b" * 40
OWNED = "inference.semantic-explorer.io/model=pinned"
SERVING = f"{OWNED},app.kubernetes.io/component=serving"

# The mirror's repository under two commits; the branch main is the second once /tmp/moved is there.
HUB = f"""
import http.client, json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

def ask(method, path, headers):
    upstream = http.client.HTTPConnection("hub-mirror.hub-mirror.svc", timeout=20)
    upstream.request(method, path, headers=headers)
    answer = upstream.getresponse()
    return answer, answer.read()

REAL = json.loads(ask("GET", "/api/models/{RERANKER}", {{}})[1])["sha"]

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        commit = "{AFTER}" if os.path.exists("/tmp/moved") else "{BEFORE}"
        path = self.path
        for known in ("{BEFORE}", "{AFTER}"):
            if known in path:
                commit, path = known, path.replace(known, REAL)
        answer, body = ask(self.command, path, dict(self.headers))
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            self.send_header(name, value.replace(REAL, commit))
        self.end_headers()
        self.wfile.write(body.replace(REAL.encode(), commit.encode()) if "/api/" in path else body)

    do_HEAD = do_GET

ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def test_what_serves_stays_at_its_commit_when_the_branch_moves(kubectl: Kubectl) -> None:
    kubectl.apply(*hub("moving-hub", kubectl.runtime_image, HUB))
    kubectl.wait("the hub", lambda: kubectl.request("http://moving-hub/healthz").status == 200, 60)
    kubectl.apply(_of_the_hub("pinned", replicas=1))
    kubectl.wait_for_condition("pinned", "Ready", "True")
    assert _commit(kubectl, "pinned") == BEFORE

    kubectl("exec", "moving-hub", "--", "touch", "/tmp/moved")
    kubectl.apply(_of_the_hub("later", replicas=0))
    kubectl.wait_for_condition("later", "Cached", "True")
    assert _commit(kubectl, "later") == AFTER

    # whatever is made anew is made of the same commit
    (job,) = kubectl.list("jobs", OWNED)
    (pod,) = kubectl.list("pods", SERVING)
    kubectl("delete", "job", job["metadata"]["name"], "--wait=false")
    kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
    kubectl.wait("another Job that has ended", lambda: _ended_other(kubectl, job), 60)
    kubectl.wait("the pod's end", lambda: kubectl.get("pod", pod["metadata"]["name"]) is None, 60)
    kubectl.wait_for_condition("pinned", "Ready", "True")
    assert _commit(kubectl, "pinned") == BEFORE


def _of_the_hub(name: str, replicas: int) -> Object:
    found = model(name, RERANKER, replicas=replicas)
    found["spec"]["model"]["source"] = {"hub": {"endpoint": "http://moving-hub"}}
    return found


def _commit(kubectl: Kubectl, name: str) -> str:
    found: str = (kubectl.get("em", name) or {})["status"]["resolvedRevision"]
    return found


def _ended_other(kubectl: Kubectl, before: Object) -> bool:
    found = kubectl.get("job", before["metadata"]["name"]) or before
    other = found["metadata"]["uid"] != before["metadata"]["uid"]
    return bool(other and found.get("status", {}).get("succeeded") == 1)
