"""An object of the wanted name that belongs to somebody else is never touched."""

from e2e.cases.kubectl import Kubectl, model

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "taken", "labels": {"team": "other"}},
    "spec": {"selector": {"app": "other"}, "ports": [{"port": 8080}]},
}


def test_a_service_of_the_same_name_is_left_alone(kubectl: Kubectl) -> None:
    kubectl.apply(SERVICE)
    before = kubectl.get("service", "taken")
    kubectl.apply(model("taken", "embedding-operator/bert-tiny-cross-encoder"))
    condition = kubectl.wait_for_condition("taken", "Accepted", "False", "NameConflict")
    assert "taken" in condition["message"]
    assert kubectl.get("service", "taken") == before


def test_it_goes_on_when_the_name_is_free(kubectl: Kubectl) -> None:
    kubectl("delete", "service", "taken")
    kubectl.wait_for_condition("taken", "Ready", "True")
