"""A claim grows where its class allows it, and what nobody can change is another claim; serving goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.cases.kubectl import Kubectl, Object, model

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
GROWING = "case-claim-change-growing"


def served(size: str, **cache: str) -> Object:
    return model("tiny", RERANKER, replicas=1, cache={"size": size, **cache})


def answers(kubectl: Kubectl) -> bool:
    return kubectl.answer("http://tiny/rerank", {"query": "a", "documents": ["b"]}).status == 200


def claims(kubectl: Kubectl) -> dict[str, str]:
    """The size that each claim has asked for."""
    return {
        found["metadata"]["name"]: found["spec"]["resources"]["requests"]["storage"]
        for found in kubectl.list("pvc")
    }


def cached(kubectl: Kubectl, words: str, seconds: float = 30) -> str:
    """The Cached condition's message once it has these words."""

    def probe() -> str | None:
        message: str = kubectl.condition("tiny", "Cached").get("message", "")
        return message if words in message else None

    return kubectl.wait(words, probe, seconds)


@pytest.fixture(scope="module")
def growing(kubectl: Kubectl) -> Iterator[str]:
    """A storage class that allows its claims to grow, made from the cluster's default one."""
    (default,) = [
        found
        for found in kubectl.list("storageclass")
        if "storageclass.kubernetes.io/is-default-class" in found["metadata"].get("annotations", {})
    ]
    kubectl.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": GROWING},
            "provisioner": default["provisioner"],
            "volumeBindingMode": default["volumeBindingMode"],
            "allowVolumeExpansion": True,
        }
    )
    yield GROWING
    kubectl("delete", "storageclass", GROWING)


def test_a_claim_that_its_class_does_not_let_grow_is_told_and_served_from(kubectl: Kubectl) -> None:
    kubectl.apply(served("1Gi"))
    kubectl.wait_for_condition("tiny", "Ready", "True")
    (name,) = claims(kubectl)
    kubectl.apply(served("2Gi"))
    message = cached(kubectl, "keeps its size, 1Gi")
    assert "resize" in message
    assert "spec.cache.storageClassName" in message
    assert claims(kubectl) == {name: "1Gi"}
    size = (kubectl.get("em", "tiny") or {})["status"]["cache"]
    assert (size["size"], "2Gi is wanted" in size["sizeReason"]) == ("1Gi", True)
    assert kubectl.condition("tiny", "Ready")["status"] == "True"
    assert answers(kubectl)


def test_another_class_is_another_claim_and_the_first_serves_until_then(
    kubectl: Kubectl, growing: str
) -> None:
    (before,) = claims(kubectl)
    kubectl.apply(served("1Gi", storageClassName=growing))
    message = cached(kubectl, "takes the place of")
    assert f"{before}, whose storageClassName cannot be changed" in message
    assert answers(kubectl)
    kubectl.wait("the claim of before gone", lambda: before not in claims(kubectl))
    kubectl.wait_for_condition("tiny", "Ready", "True")
    assert len(claims(kubectl)) == 1
    assert answers(kubectl)
    assert "takes the place" not in cached(kubectl, "in claim")


def test_a_claim_grows_where_its_class_allows_it(kubectl: Kubectl, growing: str) -> None:
    (name,) = claims(kubectl)
    pods = {found["metadata"]["uid"] for found in kubectl.list("pods")}
    kubectl.apply(served("2Gi", storageClassName=growing))
    kubectl.wait("the claim asked to grow", lambda: claims(kubectl) == {name: "2Gi"}, 20)
    # the class says that it can, its provisioner never does it
    cached(kubectl, f"Claim {name} is to grow to 2Gi and its volume has 1Gi")
    assert kubectl.condition("tiny", "Ready")["status"] == "True"
    assert {found["metadata"]["uid"] for found in kubectl.list("pods")} == pods
    kubectl("delete", "em", "tiny")
    kubectl.wait("the claim gone", lambda: not claims(kubectl))
