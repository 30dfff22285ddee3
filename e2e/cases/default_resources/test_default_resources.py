"""Pods whose resource says nothing of CPU and memory ask for what their model needs, and the status why."""

import json

from e2e.cases.kubectl import Kubectl, Object, model

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
ASKED = {"cpu": "500m", "memory": "448Mi"}


def test_requests_follow_from_the_model_and_are_shown_with_their_reason(kubectl: Kubectl) -> None:
    kubectl.apply(model("plain", MINILM, resources={}))
    kubectl.wait_for_condition("plain", "Ready", "True")
    shown = _shown(kubectl)
    assert shown["requests"] == ASKED
    assert "limits" not in shown
    assert "87Mi of files in fp32" in shown["reason"]
    assert _resources(kubectl) == {"requests": ASKED}


def test_what_the_spec_says_wins_and_the_rest_is_still_worked_out(kubectl: Kubectl) -> None:
    said = {"spec": {"resources": {"requests": {"cpu": "100m"}}}}
    kubectl("patch", "em", "plain", "--type=merge", "--patch", json.dumps(said))
    wanted = {"cpu": "100m", "memory": ASKED["memory"]}
    kubectl.wait("the template", lambda: _resources(kubectl) == {"requests": wanted}, 30)
    kubectl.wait_for_condition("plain", "Ready", "True")
    assert _shown(kubectl)["requests"] == wanted
    assert "cpu as spec.resources says" in _shown(kubectl)["reason"]


def _shown(kubectl: Kubectl) -> Object:
    found = kubectl.get("em", "plain")
    assert found is not None
    shown: Object = found["status"]["resources"]
    return shown


def _resources(kubectl: Kubectl) -> Object:
    (deployment,) = kubectl.list("deployments", "inference.semantic-explorer.io/model=plain")
    found: Object = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]
    return found
