"""Pain 6, hidden root causes (kthena#1220, kserve#2962): what only Events tell is in the conditions.

One message each, and one Event each time that it changes.
"""

from typing import Any

from e2e.cases.kubectl import Kubectl, Object, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
CACHE = {"size": "1Gi"}
TOKEN: Object = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "store", "key": "token"}}}
WRONG: Object = {"httpGet": {"path": "/no-such-page", "port": "http"}, "failureThreshold": 2}


def keyed(**spec: Any) -> Object:
    return model(
        "keyed", RERANKER, cache=CACHE, server={"drainDelaySeconds": 0, **spec.pop("server", {})}, **spec
    )


def told(kubectl: Kubectl, name: str, reason: str) -> list[str]:
    events = kubectl.list("events")
    return [
        event["message"]
        for event in events
        if (event["involvedObject"]["name"], event["reason"]) == (name, reason)
    ]


def test_a_quota_that_refuses_the_jobs_pod_is_told_and_raising_it_mends_it(kubectl: Kubectl) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}}
    kubectl.apply(quota | {"spec": {"hard": {"pods": "1"}}})
    kubectl.wait("the quota", lambda: ((kubectl.get("quota", "few") or {}).get("status") or {}).get("used"))
    kubectl.apply(model("crowded", RERANKER, replicas=0, cache=CACHE))
    condition = kubectl.wait_for_condition("crowded", "Cached", "False", "PodsRejected")
    assert "exceeded quota: few" in condition["message"]
    assert 'pods "' not in condition["message"]
    assert told(kubectl, "crowded", "PodsRejected") == [condition["message"]]
    kubectl("delete", "quota", "few")
    kubectl.wait_for_condition("crowded", "Cached", "True")


def test_a_claim_without_a_volume_says_why(kubectl: Kubectl) -> None:
    kubectl.apply(
        model("homeless", RERANKER, replicas=0, cache=CACHE | {"storageClassName": "no-such-class"})
    )
    condition = kubectl.wait_for_condition("homeless", "Cached", "False", "UnboundClaim")
    assert 'storageclass.storage.k8s.io "no-such-class" not found' in condition["message"]
    assert "spec.cache.storageClassName" in condition["message"]
    kubectl("delete", "em", "homeless")


def test_a_secret_that_a_variable_needs_is_named_and_making_it_mends_it(kubectl: Kubectl) -> None:
    kubectl.apply(keyed(env=[TOKEN]))
    condition = kubectl.wait_for_condition("keyed", "Ready", "False", "MissingSecret")
    assert "Make Secret store with key token, which spec.env (variable TOKEN) names" in condition["message"]
    assert len(told(kubectl, "keyed", "MissingSecret")) == 1
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "store"},
        "stringData": {"token": "x"},
    }
    kubectl.apply(secret)
    kubectl.wait_for_condition("keyed", "Ready", "True")


def test_a_probe_that_has_the_server_killed_is_told_and_what_serves_goes_on(kubectl: Kubectl) -> None:
    kubectl.apply(
        keyed(env=[TOKEN], podTemplate={"spec": {"containers": [{"name": "server", "startupProbe": WRONG}]}})
    )
    condition = kubectl.wait_for_condition("keyed", "Ready", "False", "ProbeFailed")
    assert "container server was killed: its startup probe failed: " in condition["message"]
    assert kubectl.condition("keyed", "Available")["status"] == "True"


def test_a_secret_that_the_pod_mounts_is_named_too(kubectl: Kubectl) -> None:
    kubectl.apply(keyed(env=[TOKEN], server={"apiKeySecretRef": {"name": "keys", "key": "clients"}}))
    condition = kubectl.wait_for_condition("keyed", "Ready", "False", "MissingSecret")
    assert 'secret "keys" not found' in condition["message"]
    assert "spec.server.apiKeySecretRef" in condition["message"]
    assert kubectl.condition("keyed", "Available")["status"] == "True"
