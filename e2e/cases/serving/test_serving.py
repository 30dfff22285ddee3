"""The main job: apply a resource, and an application of the cluster gets right vectors and scores.

Pain 1, reranking that is hard to get going (kserve#5134, kubeai#301, #608): it is the same resource.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from e2e.cases.kubectl import Kubectl, model, prepared
from tests.golden.texts import QUERIES, TEXTS

GOLDEN = Path(__file__).resolve().parents[3] / "tests" / "golden"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
RERANKER = "embedding-operator/bert-tiny-cross-encoder"


@pytest.fixture(scope="module", autouse=True)
def models(kubectl: Kubectl) -> None:
    kubectl.apply(model("minilm", MINILM, replicas=2), model("reranker", RERANKER))
    for name in ("minilm", "reranker"):
        kubectl.wait_for_condition(name, "Ready", "True")


def test_vectors_are_those_of_sentence_transformers(kubectl: Kubectl) -> None:
    golden = np.load(GOLDEN / "all-MiniLM-L6-v2.npy")
    namespace = kubectl.namespace
    answer = kubectl.answer(f"http://minilm.{namespace}.svc/embed", {"input": TEXTS})
    assert answer.status == 200, answer.body
    vectors = np.array(answer.body["embeddings"], np.float32)
    cosines = (vectors * golden).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(golden, axis=1)
    assert cosines.min() >= 0.99999


def test_scores_are_those_of_the_cross_encoder(kubectl: Kubectl) -> None:
    golden = json.loads((GOLDEN / "bert-tiny-cross-encoder.json").read_text())
    query, documents = QUERIES[0]
    answer = kubectl.answer("http://reranker/rerank", {"query": query, "documents": documents})
    assert answer.status == 200, answer.body
    results = answer.body["results"]
    assert [entry["score"] for entry in results] == sorted((e["score"] for e in results), reverse=True)
    for entry in results:
        expected = 1 / (1 + np.exp(-golden[0][entry["index"]]))
        assert entry["score"] == pytest.approx(expected, abs=1e-4)
        assert entry["text"] == documents[entry["index"]]


def test_the_status_says_what_is_served_and_where(kubectl: Kubectl) -> None:
    found = kubectl.get("em", "minilm")
    assert found is not None
    status = found["status"]
    assert status["url"] == f"http://minilm.{kubectl.namespace}.svc"
    assert status["model"]["dimensions"] == 384
    assert status["model"]["task"] == "embed"
    assert len(status["resolvedRevision"]) == 40
    assert len(status["fingerprint"]) == 64
    assert {entry["observedGeneration"] for entry in status["conditions"]} == {
        found["metadata"]["generation"]
    }
    answer = kubectl.answer("http://minilm/embed", {"input": "hello"})
    assert status["fingerprint"] in answer.headers.values()


def test_pods_run_the_graph_that_the_job_has_prepared(kubectl: Kubectl) -> None:
    for name in ("minilm", "reranker"):
        assert prepared(kubectl, name) == (True, [])


def test_a_listing_answers_is_it_up_and_what_does_it_serve(kubectl: Kubectl) -> None:
    header, *rows = kubectl("get", "em").splitlines()
    assert header.split() == ["NAME", "READY", "MODEL", "PROVIDER", "REPLICAS", "REASON", "AGE"]
    assert f"minilm     True    {MINILM}" in rows[0]
    assert "2/2" in rows[0]


def test_pods_have_no_rights_that_they_do_not_need(kubectl: Kubectl) -> None:
    for pod in kubectl.list("pods", "app.kubernetes.io/managed-by=embedding-operator"):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_replicas_follow_kubectl_scale(kubectl: Kubectl) -> None:
    kubectl("scale", "em", "reranker", "--replicas=2")
    kubectl.wait("two ready replicas", lambda: "2/2" in kubectl("get", "em", "reranker"))
    kubectl("scale", "em", "reranker", "--replicas=0")
    kubectl.wait("no replicas", lambda: "0/0" in kubectl("get", "em", "reranker"))
    kubectl("scale", "em", "reranker", "--replicas=1")
    kubectl.wait("one ready replica", lambda: "1/1" in kubectl("get", "em", "reranker"))
    kubectl.wait_for_condition("reranker", "Ready", "True")
