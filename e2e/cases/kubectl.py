"""What a case does to a cluster, through `kubectl` as a user would. Knows nothing of any single case."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import yaml

COMMAND_SECONDS = 90.0
OPERATOR_NAMESPACE = "embedding-operator-system"
OPERATOR = "deployment/embedding-operator"
MIRROR_NAMESPACE = "hub-mirror"
MIRROR = "deployment/hub-mirror"

Found = TypeVar("Found")
Object = dict[str, Any]

# runs in the client pod: one request, its answer as JSON on stdout
REQUEST = """
import json, sys, time, urllib.error, urllib.request
url, body = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
request = urllib.request.Request(url, body and body.encode(), {"Content-Type": "application/json"})
try:
    answer = urllib.request.urlopen(request, timeout=8)
except urllib.error.HTTPError as error:
    answer = error
except OSError as error:
    print(json.dumps({"status": 0, "headers": {}, "body": str(error)}))
    sys.exit()
text = answer.read().decode()
try:
    text = json.loads(text)
except ValueError:
    pass
print(json.dumps({"status": answer.status, "headers": dict(answer.headers), "body": text}))
"""


@dataclass(frozen=True)
class Answer:
    """What an HTTP request from inside the cluster brought; status 0 when nothing answered."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl against one cluster, in one namespace."""

    binary: str
    kubeconfig: str
    runtime_image: str
    namespace: str = "default"

    def within(self, namespace: str) -> Kubectl:
        """Return the same for another namespace."""
        return replace(self, namespace=namespace)

    def __call__(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run one command and return what it printed; raises AssertionError with its words if it fails."""
        command = [self.binary, "--kubeconfig", self.kubeconfig, "--namespace", self.namespace, *arguments]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
        assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout if done.returncode == 0 else done.stderr

    def apply(self, *objects: Object) -> None:
        """Apply objects as `kubectl apply -f` does."""
        self("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str) -> Object | None:
        """Return one object, or None when it does not exist."""
        text = self("get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text else None

    def list(self, kind: str, selector: str = "") -> list[Object]:
        """Return the objects of a kind in the namespace."""
        items: list[Object] = json.loads(self("get", kind, "--selector", selector, "-o", "json"))["items"]
        return items

    def request(self, url: str, body: Any = None) -> Answer:
        """Send an HTTP request from the client pod of this namespace."""
        arguments = [url] if body is None else [url, json.dumps(body)]
        text = self("exec", "client", "--", "python", "-c", REQUEST, *arguments)
        return Answer(**json.loads(text))

    def answer(self, url: str, body: Any = None) -> Answer:
        """Send a request until a server of ours answers: nodes learn of a Service after the operator does.

        Until its node knows the Service a request leaves the cluster, where some proxy may answer it, or
        nobody: such a connection comes to nothing, and only a new one finds the Service.
        """

        def probe() -> Answer | None:
            found = self.request(url, body)
            return found if "x-request-id" in found.headers else None

        return self.wait(f"an answer from {url}", probe, 60)

    def wait(self, what: str, probe: Callable[[], Found | None], seconds: float = 120.0) -> Found:
        """Ask until the probe returns something true, and return that.

        Raises:
            AssertionError: it never did; the message tells the state of every resource in the namespace.
        """
        deadline = time.monotonic() + seconds
        while True:
            if found := probe():
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:.0f} s: {what}\n{self.state()}")
            time.sleep(0.3)

    def state(self) -> str:
        """Return what somebody would look at first when a case fails."""
        resources = self("get", "embeddingmodels", "-o", "yaml", check=False)
        children = self("get", "deployments,jobs,pods,pvc,services", "-o", "wide", check=False)
        log = self.within(OPERATOR_NAMESPACE)("logs", OPERATOR, "--tail=40", check=False)
        return f"{resources}\n{children}\n{log}"

    def condition(self, name: str, kind: str) -> Object:
        """Return a condition of an EmbeddingModel as a dictionary, empty when it is not there (yet)."""
        model = self.get("embeddingmodel", name) or {}
        conditions: list[Object] = model.get("status", {}).get("conditions", [])
        return next((entry for entry in conditions if entry["type"] == kind), {})

    def wait_for_condition(
        self, name: str, kind: str, status: str, reason: str = "", seconds: float = 180.0
    ) -> Object:
        """Wait until a condition has the status (and reason), and return it."""

        def probe() -> Object | None:
            found = self.condition(name, kind)
            wanted = found.get("status") == status and (not reason or found.get("reason") == reason)
            return found if wanted else None

        return self.wait(f"{name}: {kind}={status} {reason}", probe, seconds)


def prepared(kubectl: Kubectl, name: str) -> tuple[bool, list[str]]:
    """Return whether a resource's pods run a prepared graph, and the graphs that they made for themselves."""
    (loaded,) = kubectl.answer(f"http://{name}/models?detail=true").body["models"]
    serving = "app.kubernetes.io/component=serving"
    pods = kubectl.list("pods", f"inference.semantic-explorer.io/model={name},{serving}")
    find = ("find", "/prepared", "-name", "graph.onnx")
    own = [kubectl("exec", pod["metadata"]["name"], "--", *find).split() for pod in pods]
    return loaded["prepared"], [path for paths in own for path in paths]


def model(name: str, id: str, **spec: Any) -> Object:
    """Return an EmbeddingModel; further fields of its spec as keywords.

    It asks for little CPU, since the nodes of a test cluster share one small machine, and says how large its
    claim is, since the Job that would find that out takes its time.
    """
    spec = {"resources": {"requests": {"cpu": "100m", "memory": "256Mi"}}, **spec}
    spec["cache"] = {"size": "1Gi", **spec.get("cache", {})}
    return {
        "apiVersion": "inference.semantic-explorer.io/v1alpha1",
        "kind": "EmbeddingModel",
        "metadata": {"name": name},
        "spec": {"model": {"id": id}, **spec},
    }


def client_pod(image: str) -> Object:
    """Return the pod that requests are sent from: an application of the cluster."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "client"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "client",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "infinity"],
                }
            ],
        },
    }


@contextmanager
def scaled_to_zero(kubectl: Kubectl, workload: str) -> Iterator[None]:
    """Stop every pod of a Deployment for a while."""
    kubectl("scale", workload, "--replicas=0")
    kubectl.wait("no pods", lambda: not kubectl.list("pods"), 60)
    try:
        yield
    finally:
        kubectl("scale", workload, "--replicas=1")
        kubectl("rollout", "status", workload, "--timeout=80s")
