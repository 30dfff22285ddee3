"""What the way to the hub lacks is told by its name, and mends itself.

Pain 6, hidden root causes (kthena#1220, kserve#2962).
"""

from e2e.cases.kubectl import Kubectl, Object, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"


def test_a_missing_token_secret_is_named_and_adding_it_mends_it(kubectl: Kubectl) -> None:
    kubectl.apply(reached_by("private", tokenSecretRef={"name": "hub-token", "key": "token"}))
    condition = kubectl.wait_for_condition("private", "Cached", "False", "MissingSecret")
    assert "Secret hub-token with key token" in condition["message"]
    assert "spec.model.source.hub.tokenSecretRef" in condition["message"]
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "hub-token"},
            "stringData": {"token": "hf_of_nobody"},
        }
    )
    kubectl.wait_for_condition("private", "Cached", "True")
    assert "hf_of_nobody" not in kubectl("get", "embeddingmodels,jobs,pods,events", "-o", "yaml")


def test_missing_certificates_are_named_and_adding_them_mends_it(kubectl: Kubectl) -> None:
    kubectl.apply(reached_by("internal", caBundleRef={"name": "company-ca", "key": "ca.crt"}))
    condition = kubectl.wait_for_condition("internal", "Cached", "False", "MissingConfigMap")
    assert "ConfigMap company-ca with key ca.crt" in condition["message"]
    assert "spec.model.source.hub.caBundleRef" in condition["message"]
    known = kubectl.get("configmap", "kube-root-ca.crt") or {}
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "company-ca"},
            "data": {"ca.crt": known["data"]["ca.crt"]},
        }
    )
    kubectl.wait_for_condition(
        "internal", "Cached", "True", seconds=240
    )  # the kubelet's longest pause is 122 s


def test_a_wrong_address_is_told_and_the_right_one_takes_its_place(kubectl: Kubectl) -> None:
    kubectl.apply(reached_by("elsewhere", endpoint="http://hub.invalid"))
    condition = kubectl.wait_for_condition("elsewhere", "Cached", "False", "WaitingForHub")
    assert "http://hub.invalid" in condition["message"]
    assert "spec.model.source.hub.endpoint" in condition["message"]
    kubectl.apply(reached_by("elsewhere", endpoint="http://hub-mirror.hub-mirror.svc"))
    kubectl.wait_for_condition("elsewhere", "Cached", "True")


def reached_by(name: str, **hub: object) -> Object:
    """A resource without pods whose Job reaches the hub like this."""
    wanted = model(name, RERANKER, replicas=0)
    wanted["spec"]["model"]["source"] = {"hub": hub}
    return wanted
