"""What somebody deletes or edits by hand comes back within five seconds."""

import time

import pytest

from e2e.cases.kubectl import Kubectl, Object, model

OWNED = "inference.semantic-explorer.io/model=drifting"
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


def test_a_deleted_service_is_back(kubectl: Kubectl) -> None:
    kubectl("delete", "service", "drifting")
    kubectl.wait("the service", lambda: kubectl.get("service", "drifting"), REPAIR_SECONDS)


def test_our_fields_come_back_and_fields_of_others_stay(kubectl: Kubectl) -> None:
    kubectl("annotate", "service", "drifting", "example.com/team=search")
    patch = '{"spec": {"ports": [{"port": 80, "targetPort": 9999}]}}'
    kubectl("patch", "service", "drifting", "--type=merge", "--patch", patch)

    def repaired() -> Object | None:
        found = kubectl.get("service", "drifting") or {}
        return found if found["spec"]["ports"][0]["targetPort"] == "http" else None

    found = kubectl.wait("our port", repaired, REPAIR_SECONDS)
    assert found["metadata"]["annotations"]["example.com/team"] == "search"


def test_replicas_of_the_deployment_follow_the_resource_alone(kubectl: Kubectl) -> None:
    (deployment,) = kubectl.list("deployments", OWNED)
    kubectl("scale", "deployment", deployment["metadata"]["name"], "--replicas=3")
    kubectl.wait(
        "one replica again",
        lambda: kubectl.list("deployments", OWNED)[0]["spec"]["replicas"] == 1,
        REPAIR_SECONDS,
    )
