"""The spec says how the model is served; what it cannot say is refused with what to write instead.

Pain 15, a changed embedding model that silently breaks stored indexes (sourcegraph-public-snapshot#52668,
pinchy#715): what changes vectors is another space, moved to at once, and told.
"""

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from e2e.cases.kubectl import Kubectl, Object, model

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SERVED = "text-embedding-3-small"


def shaped(**of_model: Any) -> Object:
    found = model(
        "shaped", MINILM, servedNames=[SERVED], server={"drainDelaySeconds": 1, "logLevel": "debug"}
    )
    found["spec"]["model"] |= of_model
    found["spec"]["env"] = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    return found


@pytest.fixture(scope="module", autouse=True)
def ready(kubectl: Kubectl) -> None:
    kubectl.apply(shaped())
    kubectl.wait_for_condition("shaped", "Ready", "True")


def fingerprint(kubectl: Kubectl) -> str:
    found: str = (kubectl.get("em", "shaped") or {})["status"]["fingerprint"]
    return found


@pytest.mark.parametrize("name", [MINILM, "shaped", SERVED])
def test_pods_answer_to_the_id_the_resource_and_the_served_names(kubectl: Kubectl, name: str) -> None:
    answer = kubectl.answer("http://shaped/embed", {"input": "hello", "model": name})
    assert answer.status == 200, answer.body


def test_metrics_are_on_a_port_of_their_own(kubectl: Kubectl) -> None:
    (pod,) = kubectl.list(
        "pods", "app.kubernetes.io/component=serving,inference.semantic-explorer.io/model=shaped"
    )
    answer = kubectl.request(f"http://{pod['status']['podIP']}:9090/metrics")
    assert answer.status == 200


def test_another_pooling_is_another_space_from_the_same_claim(kubectl: Kubectl) -> None:
    before = fingerprint(kubectl)
    claims = [body["metadata"]["name"] for body in kubectl.list("pvc")]
    kubectl.apply(shaped(pooling="cls", maxLength=64))
    kubectl.wait("another fingerprint", lambda: fingerprint(kubectl) != before)
    kubectl.wait_for_condition("shaped", "Ready", "True")
    happened = (kubectl.get("em", "shaped") or {})["status"]["events"]
    (switched,) = [entry for entry in happened if entry["reason"] == "Switched"]
    assert f"no longer from {before[:8]}: vectors of the two cannot be compared" in switched["message"]
    assert "Switched" in kubectl("describe", "em", "shaped")
    assert [body["metadata"]["name"] for body in kubectl.list("pvc")] == claims
    assert (kubectl.get("em", "shaped") or {})["status"]["model"]["maxTokens"] == 64


def test_what_would_wait_longer_than_allowed_is_refused_with_a_time_to_come_back(kubectl: Kubectl) -> None:
    body = shaped(precision="int8")
    body["spec"]["server"]["maxQueueWaitMilliseconds"] = 1
    kubectl.apply(body)
    kubectl.wait("int8", lambda: (kubectl.get("em", "shaped") or {})["status"].get("precision") == "int8")
    kubectl.wait_for_condition("shaped", "Ready", "True")
    asked = {"input": ["a text of some length"] * 512}
    with ThreadPoolExecutor(4) as clients:
        answers = [clients.submit(kubectl.answer, "http://shaped/embed", asked) for _ in range(12)]
    found = [answer.result() for answer in answers]
    assert {answer.status for answer in found} == {200, 429}
    refused = next(answer for answer in found if answer.status == 429)
    assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (
            {"env": [{"name": "API_WORKERS", "value": "2"}]},
            "write spec.server.workers instead of API_WORKERS",
        ),
        ({"env": [{"name": "HF_HOME", "value": "/x"}]}, "leave HF_HOME out; the operator sets it"),
        ({"server": {"drainDelaySeconds": 60}}, "shutdownTimeoutSeconds of at least drainDelaySeconds"),
        (
            {"model": {"id": "a/b", "file": "a.onnx", "precision": "fp16"}},
            "write file or precision, not both",
        ),
        ({"model": {"id": "a/b", "task": "rerank", "pooling": "cls"}}, "it makes no vectors"),
        (
            {"model": {"id": "a/b", "source": {"hub": {"endpoint": "http://u:p@h"}}}},
            "without a user or password",
        ),
        ({"cache": {"claimName": "mine", "storageClassName": "fast"}}, "not both"),
        ({"scheduling": {"tolerations": [{"value": "x"}]}}, "write a key, or operator: Exists"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_write(kubectl: Kubectl, part: Object, told: str) -> None:
    body = copy.deepcopy(model("refused", MINILM))
    body["spec"] |= part
    words = kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(body), check=False)
    assert told in words
