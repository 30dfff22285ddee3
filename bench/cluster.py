"""What a user waits for and pays for on a real cluster: `python -m bench.cluster`.

Writes bench/results/cluster.json.
Seconds from `kubectl apply` to Ready with nothing cached and with the model in its claim, `/embed` from a
pod of the cluster, and the memory of the operator and of a serving pod. Uses the e2e cluster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from e2e.cases.kubectl import OPERATOR_NAMESPACE, Kubectl, client_pod, model

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = "embedding-operator-e2e"
NAMESPACE = "bench"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
OWNED = "inference.semantic-explorer.io/model=minilm"

# runs in the client pod: single requests one after the other, over one connection; milliseconds on stdout
LATENCIES = """
import http.client, json, sys, time
count = int(sys.argv[1])
body = json.dumps({"input": "How does a plant make sugar from sunlight?"})
connection = http.client.HTTPConnection("minilm", 80, timeout=10)
taken = []
for _ in range(count + 20):
    start = time.perf_counter()
    connection.request("POST", "/embed", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status
    taken.append((time.perf_counter() - start) * 1000)
print(json.dumps(taken[20:]))
"""

# runs in a container: the proportional set size of every process there, in MiB
MEMORY = """
import json, pathlib
sizes = {}
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        rollup = (process / "smaps_rollup").read_text()
        name = (process / "cmdline").read_text().replace(chr(0), " ").strip()
    except OSError:
        continue
    if "smaps_rollup" not in name:
        sizes[process.name + " " + name[:60]] = int(rollup.split("Pss:")[1].split()[0]) / 1024
print(json.dumps(sizes))
"""


def bring_up() -> Kubectl:
    """Return kubectl for the e2e cluster, with this checkout's images in it."""
    command = [sys.executable, "-m", "e2e.cluster", "up", "--name", CLUSTER]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    return Kubectl(f"{told['path']}/kubectl", told["kubeconfig"], f"{told['runtime_image']}-cpu", NAMESPACE)


def cold(kubectl: Kubectl) -> float:
    """Seconds from apply to Ready, with the download."""
    kubectl("delete", "em", "minilm", "--ignore-not-found")
    kubectl.wait("an empty namespace", lambda: not kubectl.list("pods,persistentvolumeclaims", OWNED))
    start = time.monotonic()
    kubectl.apply(model("minilm", MINILM))
    kubectl.wait_for_condition("minilm", "Ready", "True")
    return time.monotonic() - start


def warm(kubectl: Kubectl) -> float:
    """Seconds from `kubectl scale` to Ready, from no pods to one, with the model in its claim."""
    kubectl("scale", "em", "minilm", "--replicas=0")
    kubectl.wait("no pods", lambda: not kubectl.list("pods", f"{OWNED},app.kubernetes.io/component=serving"))
    kubectl.wait_for_condition("minilm", "Available", "False")

    def one_ready() -> bool:
        return "1/1" in kubectl("get", "em", "minilm")

    start = time.monotonic()
    kubectl("scale", "em", "minilm", "--replicas=1")
    kubectl.wait("one ready replica", one_ready)
    return time.monotonic() - start


def memory(kubectl: Kubectl, pod: str) -> dict[str, float]:
    """MiB of every process of a pod's container (PSS)."""
    sizes: dict[str, float] = json.loads(kubectl("exec", pod, "--", "python", "-c", MEMORY))
    return {name: round(size, 1) for name, size in sizes.items()}


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--requests", type=int, default=300, help="single requests per repeat")
    options = parser.parse_args()
    kubectl = bring_up()
    kubectl("create", "namespace", NAMESPACE, check=False)
    kubectl.apply(client_pod(kubectl.runtime_image))
    kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")

    colds = [cold(kubectl) for _ in range(options.repeats)]
    warms = [warm(kubectl) for _ in range(options.repeats)]
    latencies: list[list[float]] = [
        json.loads(kubectl("exec", "client", "--", "python", "-c", LATENCIES, str(options.requests)))
        for _ in range(options.repeats)
    ]
    (server,) = kubectl.list("pods", f"{OWNED},app.kubernetes.io/component=serving")
    (operator,) = kubectl.within(OPERATOR_NAMESPACE).list("pods")
    result = {
        "command": " ".join(["python -m bench.cluster", *sys.argv[1:]]),
        "model": MINILM,
        "apply_to_ready_seconds": {"median": statistics.median(colds), "all": colds},
        "scale_from_zero_to_ready_seconds": {"median": statistics.median(warms), "all": warms},
        "embed_single_ms": {
            "p50_median": statistics.median(statistics.median(taken) for taken in latencies),
            "p50_all": [statistics.median(taken) for taken in latencies],
            "p99_all": [statistics.quantiles(taken, n=100)[98] for taken in latencies],
        },
        "memory_pss_mib": {
            "serving pod": memory(kubectl, server["metadata"]["name"]),
            "operator": memory(kubectl.within(OPERATOR_NAMESPACE), operator["metadata"]["name"]),
        },
    }
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    text = json.dumps(result, indent=1)
    print(text)
    (ROOT / "bench" / "results" / "cluster.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
