"""Pods are not drained all at once: the budget holds the second back until the first has a successor."""

import json
from functools import partial

import pytest

from e2e.cases.kubectl import Kubectl, Object, model

SERVING = "app.kubernetes.io/component=serving"
REPAIR_SECONDS = 5.0


@pytest.fixture(scope="module", autouse=True)
def guarded(kubectl: Kubectl) -> None:
    kubectl.apply(model("guarded", "embedding-operator/bert-tiny-cross-encoder", replicas=2))
    kubectl.wait_for_condition("guarded", "Ready", "True")
    kubectl.wait("a disruption allowed", partial(_allowed, kubectl, 1), 30)


def test_a_drain_takes_one_pod_and_waits_with_the_other(kubectl: Kubectl) -> None:
    first, second = (pod["metadata"]["name"] for pod in kubectl.list("pods", SERVING))
    assert _evict(kubectl, first) == ""
    assert "disruption budget" in _evict(kubectl, second)
    answer = kubectl.answer("http://guarded/rerank", {"query": "a", "documents": ["b"]})
    assert answer.status == 200
    kubectl.wait("the successor", lambda: _evict(kubectl, second) == "", 120)
    kubectl.wait_for_condition("guarded", "Ready", "True")


def test_a_deleted_budget_is_back(kubectl: Kubectl) -> None:
    kubectl("delete", "poddisruptionbudget", "guarded")
    kubectl.wait("the budget", lambda: kubectl.get("poddisruptionbudget", "guarded"), REPAIR_SECONDS)


def test_a_loosened_budget_is_tight_again(kubectl: Kubectl) -> None:
    patch = '{"spec": {"maxUnavailable": "100%"}}'
    kubectl("patch", "poddisruptionbudget", "guarded", "--type=merge", "--patch", patch)

    def repaired() -> Object | None:
        found = kubectl.get("poddisruptionbudget", "guarded") or {}
        return found if found.get("spec", {}).get("maxUnavailable") == 1 else None

    kubectl.wait("our number", repaired, REPAIR_SECONDS)


def _allowed(kubectl: Kubectl, count: int) -> bool:
    found = kubectl.get("poddisruptionbudget", "guarded") or {}
    return bool(found.get("status", {}).get("disruptionsAllowed") == count)


def _evict(kubectl: Kubectl, pod: str) -> str:
    """Ask for an eviction as `kubectl drain` does; return the refusal, empty when it was granted."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": kubectl.namespace},
    }
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}/eviction"
    said = kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body), check=False)
    return "" if '"Success"' in said else said
