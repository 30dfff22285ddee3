"""Pain 4, a reconcile war (kserve#2521): where nothing changes nothing is written, however often we look.

Also where other controllers have put labels and annotations of their own on everything that it owns.
"""

import time
from datetime import UTC, datetime
from pathlib import Path

import yaml

from e2e.cases import audit
from e2e.cases.kubectl import Kubectl, Object, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SAMPLE = Path(__file__).resolve().parents[3] / "manifests" / "samples" / "full.yaml"
QUIET_SECONDS, RESYNC_SECONDS, SETTLED_SECONDS = 60.0, 10, 10.0

CHILDREN = (
    "deployments,replicasets,pods,jobs,persistentvolumeclaims,services,configmaps,controllerrevisions,"
    "poddisruptionbudgets"
)
KINDS = {
    "Deployment", "ReplicaSet", "Pod", "Job", "PersistentVolumeClaim", "Service", "ConfigMap",
    "ControllerRevision", "PodDisruptionBudget",
}  # fmt: skip
OURS = "app.kubernetes.io/managed-by=embedding-operator"
FOREIGN = {"argocd.argoproj.io/instance": "models", "app.kubernetes.io/instance": "models"}

# one that serves, one whose pods fetch for themselves, one without pods and with every field that there is,
# one at rest, one that cannot be had, one that no node takes
STEADY = {
    "serving": ("Ready", "True", ""),
    "alone": ("Ready", "True", ""),
    "full": ("Cached", "True", ""),
    "resting": ("Ready", "False", "Suspended"),
    "wrong": ("Cached", "False", "ModelNotFound"),
    "homeless": ("Cached", "False", "Unschedulable"),
}


def test_a_quiet_minute_has_no_request_that_writes(kubectl: Kubectl) -> None:
    begun = datetime.now(UTC)
    kubectl.wait("no namespace on its way out", lambda: not _terminating(kubectl))
    with audit.resync_every(kubectl, RESYNC_SECONDS):
        kubectl.apply(*_models(kubectl.runtime_image))
        for name, (kind, status, reason) in STEADY.items():
            kubectl.wait_for_condition(name, kind, status, reason)
        for verb in ("label", "annotate"):
            kubectl(verb, CHILDREN, "--selector", OURS, *map("=".join, FOREIGN.items()))
        kubectl.wait("nothing written for a while", lambda: _settled(kubectl, begun))
        since, before = datetime.now(UTC), _versions(kubectl)
        time.sleep(QUIET_SECONDS)
        found = audit.requests(kubectl, since, datetime.now(UTC))
    assert [request for request in found if request.writes] == []
    assert {kind for kind, _ in before} == KINDS
    assert all(marked for _, marked in before.values())
    assert _versions(kubectl) == before
    # it did look: each resource is read at every resync, which comes up to a fifth later than asked for
    rounds = QUIET_SECONDS // (RESYNC_SECONDS * 1.2) - 1
    for name in STEADY:
        asked = [request for request in found if (request.verb, request.name) == ("get", name)]
        assert len(asked) >= rounds, (name, audit.counted(found))


def _models(image: str) -> list[Object]:
    nowhere = {"nodeSelector": {"example.com/no-such": "node"}}
    return [
        model("serving", RERANKER),
        model("alone", RERANKER, cache={"mode": "PerReplica"}),
        _full(image),
        model("resting", RERANKER, suspend=True),
        model("wrong", "embedding-operator/no-such-model"),
        model("homeless", RERANKER, scheduling=nowhere),
    ]


def _full(image: str) -> Object:
    """Return the sample that has every field, less what only a user's cluster has."""
    found: Object = yaml.safe_load(SAMPLE.read_text())
    spec = found["spec"]
    for part, field in ((spec, "gpu"), (spec["model"], "source"), (spec["scheduling"], "priorityClassName")):
        del part[field]
    spec["model"] |= {"id": MINILM, "maxLength": 128}
    return found | {"metadata": {"name": "full"}, "spec": spec | {"replicas": 0, "image": image}}


def _versions(kubectl: Kubectl) -> dict[tuple[str, str], tuple[str, bool]]:
    """Return the version of each child, and whether it has what others put on it."""
    return {
        (entry["kind"], entry["metadata"]["name"]): (
            entry["metadata"]["resourceVersion"],
            FOREIGN.items() <= entry["metadata"]["labels"].items()
            and FOREIGN.items() <= entry["metadata"]["annotations"].items(),
        )
        for entry in kubectl.list(CHILDREN, OURS)
    }


def _settled(kubectl: Kubectl, begun: datetime) -> bool:
    now = datetime.now(UTC)
    written = [request for request in audit.requests(kubectl, begun, now) if request.writes]
    assert written, "five resources were made, and nothing that was written for them is in the log"
    return (now - written[-1].moment).total_seconds() > SETTLED_SECONDS


def _terminating(kubectl: Kubectl) -> list[Object]:
    return [entry for entry in kubectl.list("namespaces") if "deletionTimestamp" in entry["metadata"]]
