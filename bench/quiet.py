"""That nothing is written where nothing changes: `python -m bench.quiet`. Writes bench/results/quiet.json.

Makes resources on the e2e cluster, waits until they are steady, and counts in the API server's audit log what
the operator's account asks for while they stay as they are. Ends with status 1 where a request of it writes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime

from bench.cluster import ROOT, bring_up
from e2e.cases import audit
from e2e.cases.kubectl import Kubectl, Object, model

NAMESPACE = "quiet"
RERANKER = "embedding-operator/bert-tiny-cross-encoder"
SETTLED_SECONDS, POLL_SECONDS = 20.0, 2.0
STEADY_SECONDS = 45.0
"""For each resource: its claim and its Job take seconds, and few run at a time."""


def steady(resource: Object) -> bool:
    """Tell whether a resource has become what it asks for."""
    status = resource.get("status", {})
    conditions = {entry["type"]: entry["status"] for entry in status.get("conditions", ())}
    return conditions.get("Cached") == "True" and conditions.get("Reconciling") == "False"


def settle(kubectl: Kubectl, names: list[str]) -> None:
    """Wait until every resource is steady, and nothing has been written for a while."""
    begun = datetime.now(UTC)

    def all_steady() -> bool:
        found = kubectl.list("embeddingmodels")
        return sum(steady(resource) for resource in found) == len(names)

    kubectl.wait("steady resources", all_steady, STEADY_SECONDS * len(names))

    def silent() -> bool:
        time.sleep(POLL_SECONDS)
        now = datetime.now(UTC)
        written = [request for request in audit.requests(kubectl, begun, now) if request.writes]
        last = written[-1].moment if written else begun
        return (now - last).total_seconds() > SETTLED_SECONDS

    kubectl.wait("no more writes", silent)


def main() -> int:
    """Measure, print and write the result; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resources", type=int, default=50)
    parser.add_argument("--serving", type=int, default=3, help="of these, how many have a pod")
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    kubectl = bring_up().within(NAMESPACE)
    kubectl("create", "namespace", NAMESPACE)
    try:
        names = [f"quiet-{number}" for number in range(options.resources)]
        begun = time.monotonic()
        kubectl.apply(
            *(model(name, RERANKER, replicas=int(at < options.serving)) for at, name in enumerate(names))
        )
        settle(kubectl, names)
        steady_after, since = time.monotonic() - begun, datetime.now(UTC)
        time.sleep(options.minutes * 60)
        found = audit.requests(kubectl, since, datetime.now(UTC))
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    writes = audit.counted(request for request in found if request.writes)
    result = {
        "command": " ".join(["python -m bench.quiet", *sys.argv[1:]]),
        "resources": options.resources,
        "serving": options.serving,
        "minutes": options.minutes,
        "steady_after_seconds": round(steady_after, 1),
        "writes": writes,
        "requests": audit.counted(found),
    }
    text = json.dumps(result, indent=1)
    print(text)
    (ROOT / "bench" / "results" / "quiet.json").write_text(text + "\n")
    return 1 if writes else 0


if __name__ == "__main__":
    sys.exit(main())
