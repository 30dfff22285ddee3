"""spec.podTemplate is merged into the serving pods, rolls them out once, and is no way to more rights."""

import copy
import json
from typing import Any

import pytest
import yaml

from e2e.cases.kubectl import Kubectl, Object, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
SERVING = "app.kubernetes.io/component=serving"
PATIENT: Object = {"name": "server", "startupProbe": {"failureThreshold": 600}}


def templated(**template: Any) -> Object:
    return model("templated", RERANKER, server={"drainDelaySeconds": 0}, podTemplate=template)


def deployment(kubectl: Kubectl) -> Object:
    (found,) = kubectl.list("deployments")
    return found


@pytest.fixture(scope="module", autouse=True)
def ready(kubectl: Kubectl) -> None:
    """A template with much of what the API server adds defaults to."""
    side = {
        "name": "side",
        "image": kubectl.runtime_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
        "ports": [{"containerPort": 9100}],
        "env": [{"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}],
        "resources": {"requests": {"cpu": "0.01", "memory": "16777216"}, "limits": {"memory": "64Mi"}},
        "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
    }
    labels = {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}
    kubectl.apply(
        templated(
            metadata={"labels": {"team": "search"}, "annotations": {"example.com/scrape": "true"}},
            spec={
                "terminationGracePeriodSeconds": 1,
                "containers": [PATIENT, side],
                "volumes": [{"name": "about", "projected": {"sources": [{"downwardAPI": labels}]}}],
            },
        )
    )
    refused = kubectl.wait_for_condition("templated", "Accepted", "False", "PodTemplateRefused")
    assert "spec.podTemplate.spec.terminationGracePeriodSeconds" in refused["message"]
    assert "write spec.server.shutdownTimeoutSeconds" in refused["message"]
    assert kubectl.list("jobs") == kubectl.list("pvc") == []
    kubectl("patch", "em", "templated", "--type=json", "-p", json.dumps([{"op": "remove", "path": GRACE}]))
    kubectl.wait_for_condition("templated", "Ready", "True")


GRACE = "/spec/podTemplate/spec/terminationGracePeriodSeconds"


def test_pods_have_what_the_template_says_beside_what_the_operator_gives_them(kubectl: Kubectl) -> None:
    (pod,) = kubectl.list("pods", SERVING)
    assert pod["metadata"]["labels"]["team"] == "search"
    server, side = pod["spec"]["containers"]
    assert (server["name"], server["startupProbe"]["failureThreshold"]) == ("server", 600)
    assert server["startupProbe"]["httpGet"]["path"] == "/health/live"
    assert side["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert kubectl("exec", pod["metadata"]["name"], "-c", "side", "--", "ls", "/models")


def test_what_the_api_server_adds_to_it_starts_no_war(kubectl: Kubectl) -> None:
    """Pain 4: the Deployment is compared at every event and at every resync, and not written."""
    before = deployment(kubectl)["metadata"]
    kubectl("annotate", "em", "templated", "example.com/look=again", "--overwrite")
    # the operator has seen that once it acts on what came after it
    kubectl("patch", "em", "templated", "--type=merge", "-p", '{"spec": {"service": {"port": 81}}}')
    kubectl.wait(
        "the port", lambda: "81" in kubectl("get", "svc", "templated", "-o", "jsonpath={.spec.ports}")
    )
    after = deployment(kubectl)["metadata"]
    assert (after["generation"], after["resourceVersion"]) == (
        before["generation"],
        before["resourceVersion"],
    )


@pytest.mark.parametrize(
    ("part", "path", "privilege"),
    [
        ({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}, "volumes[host].hostPath", "hostPath"),
        ({"hostNetwork": True}, "hostNetwork", "hostNetwork"),
        ({"serviceAccountName": "admin"}, "serviceAccountName", "serviceAccountName"),
        (
            {"containers": [{"name": "server", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]},
            "containers[server].securityContext.capabilities",
            "capabilities",
        ),
    ],
)
def test_a_way_up_is_refused_and_what_serves_goes_on(
    kubectl: Kubectl, part: Object, path: str, privilege: str
) -> None:
    before = deployment(kubectl)["metadata"]["generation"]
    kubectl.apply(templated(spec=part))
    refused = kubectl.wait(
        path,
        lambda: told if path in (told := kubectl.condition("templated", "Accepted"))["message"] else None,
    )
    assert (refused["status"], refused["reason"]) == ("False", "PodTemplateRefused")
    assert f"add {privilege} to POD_TEMPLATE_ALLOW" in refused["message"]
    assert kubectl.condition("templated", "Available")["status"] == "True"
    assert deployment(kubectl)["metadata"]["generation"] == before
    assert kubectl.answer("http://templated:81/health/live").status == 200


def test_a_pod_that_cannot_be_is_answered_in_the_api_servers_words(kubectl: Kubectl) -> None:
    kubectl.apply(templated(spec={"bogus": 1}))
    refused = kubectl.wait_for_condition("templated", "Accepted", "False", "Rejected")
    assert ".spec.template.spec.bogus: field not declared in schema" in refused["message"]
    kubectl.apply(templated(spec={"restartPolicy": "Never"}))
    kubectl.wait(
        "the next refusal", lambda: "restartPolicy" in kubectl.condition("templated", "Accepted")["message"]
    )
    assert kubectl.condition("templated", "Available")["status"] == "True"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (
            {"metadata": {"labels": {"app.kubernetes.io/component": "x"}}},
            "leave those out that the operator sets",
        ),
        (
            {"metadata": {"labels": {"inference.semantic-explorer.io/model": "x"}}},
            "leave those out that the operator sets",
        ),
        (
            {"spec": {"containers": [{"name": "server", "args": ["x"]}]}},
            "leave command and args of server out",
        ),
        ({"spec": {"containers": [{"name": "server", "image": "x"}]}}, "write spec.image instead"),
        ({"spec": {"containers": [{"name": "server", "resources": {}}]}}, "write spec.resources instead"),
        ({"spec": {"initContainers": [{"name": "server"}]}}, "write other names than server"),
        ({"spec": {"volumes": [{"name": "models", "emptyDir": {}}]}}, "write other names than models"),
    ],
)
def test_what_nobody_may_overwrite_is_refused_by_the_schema(
    kubectl: Kubectl, template: Object, told: str
) -> None:
    body = copy.deepcopy(templated(**template))
    words = kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(body), check=False)
    assert told in words
