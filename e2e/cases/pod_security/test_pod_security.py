"""Pods are of the restricted Pod Security level, hold no token of the cluster, and nothing tells a secret."""

import json

import pytest

from e2e.cases.kubectl import OPERATOR, OPERATOR_NAMESPACE, Kubectl, Object, model

SECRETS = {"token": "hf_told_to_nobody", "keys": "key-told-to-nobody"}
OPERATOR_ACCOUNT = f"system:serviceaccount:{OPERATOR_NAMESPACE}:embedding-operator"
RESTRICTED = ("pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/warn=restricted")


@pytest.fixture(scope="module", autouse=True)
def guarded(kubectl: Kubectl) -> None:
    """A resource with every secret that one can have, in a namespace that admits restricted pods only."""
    kubectl("label", "namespace", kubectl.namespace, *RESTRICTED)
    kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own"}, "stringData": SECRETS})
    wanted = model(
        "guarded",
        "embedding-operator/bert-tiny-cross-encoder",
        server={"apiKeySecretRef": {"name": "own", "key": "keys"}, "drainDelaySeconds": 1},
    )
    wanted["spec"]["model"]["source"] = {"hub": {"tokenSecretRef": {"name": "own", "key": "token"}}}
    kubectl.apply(wanted)
    kubectl.wait_for_condition("guarded", "Ready", "True")


def test_pods_are_admitted_to_a_restricted_namespace_without_a_warning(kubectl: Kubectl) -> None:
    made = [*kubectl.list("deployments"), *kubectl.list("jobs")]
    assert [body["kind"] for body in made] == ["Deployment", "Job"]
    for body in made:
        # the warnings of the admission go to whoever creates the object: the operator, and here to us
        assert _warnings(kubectl, _copy(body)) == ""
    careless = _copy(made[0])
    careless["spec"]["template"]["spec"]["hostNetwork"] = True
    assert "would violate PodSecurity" in _warnings(kubectl, careless)


def test_the_operators_own_namespace_is_restricted_and_it_runs_there(kubectl: Kubectl) -> None:
    namespace = kubectl.get("namespace", OPERATOR_NAMESPACE) or {}
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert [pod["status"]["phase"] for pod in kubectl.within(OPERATOR_NAMESPACE).list("pods")] == ["Running"]


def test_no_pod_has_a_token_of_the_cluster(kubectl: Kubectl) -> None:
    pods = kubectl.list("pods", "app.kubernetes.io/managed-by=embedding-operator")
    assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods} == {
        "prefetch", "serving"
    }  # fmt: skip
    # the admission of service accounts adds a projected volume where the pod does not say no
    assert not [volume for pod in pods for volume in pod["spec"]["volumes"] if "projected" in volume]


def test_no_secret_is_told_in_an_object_or_a_log(kubectl: Kubectl) -> None:
    kinds = "embeddingmodels,deployments,replicasets,controllerrevisions,jobs,pods,configmaps,services,events"
    told = [kubectl("get", kinds, "-o", "yaml"), kubectl.within(OPERATOR_NAMESPACE)("logs", OPERATOR)]
    told += [
        kubectl("logs", pod["metadata"]["name"], "--all-containers")
        for pod in kubectl.list("pods", "app.kubernetes.io/managed-by=embedding-operator")
    ]
    assert all(told)
    assert not [secret for secret in SECRETS.values() for text in told if secret in text]


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        ("list", "pods", True),  # so that a no says something
        ("get", "secrets", False),
        ("list", "secrets", False),
        ("watch", "secrets", False),
        ("create", "pods/exec", False),
        ("create", "serviceaccounts/token", False),
        ("create", "pods", False),
    ],
)
def test_the_operator_may_not_read_secrets_by_any_way(
    kubectl: Kubectl, verb: str, resource: str, allowed: bool
) -> None:
    kind, _, sub = resource.partition("/")
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": OPERATOR_ACCOUNT,
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "resourceAttributes": {
                "namespace": kubectl.namespace,
                "verb": verb,
                "resource": kind,
                "subresource": sub,
            },
        },
    }
    found = json.loads(kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review)))
    assert found["status"]["allowed"] is allowed, found["status"]


def _warnings(kubectl: Kubectl, body: Object) -> str:
    """Return what the API server has to say about an object that somebody creates, empty when nothing."""
    try:
        kubectl("create", "--dry-run=server", "--warnings-as-errors", "-f", "-", stdin=json.dumps(body))
    except AssertionError as error:
        return str(error)
    return ""


def _copy(body: Object) -> Object:
    """Return the same object anew, without what only the one that exists has."""
    spec = dict(body["spec"])
    if body["kind"] == "Job":
        del spec["selector"]  # this and the labels are made by the server, and name the Job that exists
        spec["template"] = {**spec["template"], "metadata": {}}
    metadata = {"name": f"{body['metadata']['name']}-copy", "namespace": body["metadata"]["namespace"]}
    return {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "spec": spec}
