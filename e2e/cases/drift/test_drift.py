"""What somebody deletes or edits by hand comes back within five seconds.

Pain 4, a reconcile war (kserve#2521): what others add stays, and nothing is written over and over.
"""

import json
import time

import pytest

from e2e.cases.kubectl import Kubectl, Object, model

OUR_LABELS = ("inference.semantic-explorer.io/model", "app.kubernetes.io/managed-by")
OWNED = "inference.semantic-explorer.io/model=drifting"
SERVING = f"{OWNED},app.kubernetes.io/component=serving"
RESTARTED = "kubectl.kubernetes.io/restartedAt"
REPAIR_SECONDS = 5.0


@pytest.fixture(scope="module", autouse=True)
def drifting(kubectl: Kubectl) -> None:
    kubectl.apply(model("drifting", "embedding-operator/bert-tiny-cross-encoder"))
    kubectl.wait_for_condition("drifting", "Ready", "True")


def test_a_deleted_deployment_is_back_and_serves(kubectl: Kubectl) -> None:
    (before,) = kubectl.list("deployments", OWNED)
    kubectl("delete", "deployment", before["metadata"]["name"], "--wait=false")
    start = time.monotonic()

    def replacement() -> Object | None:
        found = kubectl.list("deployments", OWNED)
        return next((entry for entry in found if entry["metadata"]["uid"] != before["metadata"]["uid"]), None)

    kubectl.wait("another deployment", replacement, REPAIR_SECONDS)
    assert time.monotonic() - start <= REPAIR_SECONDS
    kubectl.wait_for_condition("drifting", "Ready", "False", seconds=10)
    kubectl.wait_for_condition("drifting", "Ready", "True")


@pytest.mark.parametrize("kind", ["services", "configmaps", "controllerrevisions", "jobs"])
def test_whatever_is_deleted_is_back(kubectl: Kubectl, kind: str) -> None:
    before = _uids(kubectl, kind)
    kubectl("delete", kind, "--selector", OWNED, "--wait=false")

    def back() -> bool:
        found = _uids(kubectl, kind)
        return found.keys() == before.keys() and not found.items() & before.items()

    kubectl.wait(f"other {kind} of the same names", back, REPAIR_SECONDS)
    kubectl.wait_for_condition("drifting", "Ready", "True")


def test_our_fields_come_back_and_fields_of_others_stay(kubectl: Kubectl) -> None:
    kubectl("annotate", "service", "drifting", "example.com/team=search")
    patch = '{"spec": {"ports": [{"port": 80, "targetPort": 9999}]}}'
    kubectl("patch", "service", "drifting", "--type=merge", "--patch", patch)

    def repaired() -> Object | None:
        found = kubectl.get("service", "drifting") or {}
        return found if found["spec"]["ports"][0]["targetPort"] == "http" else None

    found = kubectl.wait("our port", repaired, REPAIR_SECONDS)
    assert found["metadata"]["annotations"]["example.com/team"] == "search"


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("service", {"spec": {"selector": {"example.com/nobody": "has-this"}}}),
        ("deployment", {"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": "100%"}}}}),
        ("deployment", {"metadata": {"labels": dict.fromkeys(OUR_LABELS)}}),
        ("poddisruptionbudget", {"metadata": {"labels": dict.fromkeys(OUR_LABELS)}}),
    ],
)
def test_an_edit_of_ours_is_undone(kubectl: Kubectl, kind: str, patch: Object) -> None:
    (before,) = kubectl.list(kind, OWNED)
    name = before["metadata"]["name"]
    kubectl("patch", kind, name, "--type=merge", "--patch", json.dumps(patch))

    def undone() -> bool:
        found = kubectl.get(kind, name) or {}
        return _ours(found) == _ours(before)

    kubectl.wait(f"the {kind} of before", undone, REPAIR_SECONDS)


def test_a_restart_of_the_pods_that_somebody_asks_for_goes_through(kubectl: Kubectl) -> None:
    (deployment,) = kubectl.list("deployments", OWNED)
    before = {pod["metadata"]["uid"] for pod in kubectl.list("pods", SERVING)}
    kubectl("rollout", "restart", f"deployment/{deployment['metadata']['name']}")

    def others() -> bool:
        return not before & {pod["metadata"]["uid"] for pod in kubectl.list("pods", SERVING)}

    kubectl.wait("other pods", others)
    kubectl.wait_for_condition("drifting", "Ready", "True")
    (after,) = kubectl.list("deployments", OWNED)
    assert after["metadata"]["generation"] == deployment["metadata"]["generation"] + 1
    assert RESTARTED in after["spec"]["template"]["metadata"]["annotations"]


def test_replicas_of_the_deployment_follow_the_resource_alone(kubectl: Kubectl) -> None:
    (deployment,) = kubectl.list("deployments", OWNED)
    kubectl("scale", "deployment", deployment["metadata"]["name"], "--replicas=3")
    kubectl.wait(
        "one replica again",
        lambda: kubectl.list("deployments", OWNED)[0]["spec"]["replicas"] == 1,
        REPAIR_SECONDS,
    )


def _ours(body: Object) -> Object:
    return {"labels": body["metadata"]["labels"], "spec": body["spec"]}


def _uids(kubectl: Kubectl, kind: str) -> dict[str, str]:
    found = kubectl.list(kind, f"{OWNED},app.kubernetes.io/managed-by=embedding-operator")
    return {entry["metadata"]["name"]: entry["metadata"]["uid"] for entry in found}
