"""A model out of a container image: copied once where pods cannot mount images, mounted where they can.

The image is on the nodes and in no registry, as where there is none (nim#663, nim#887).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial

import pytest

from e2e.cases import audit
from e2e.cases.kubectl import OPERATOR, OPERATOR_NAMESPACE, Kubectl, Object, model
from e2e.cases.oci_source.image import image

RERANKER = "embedding-operator/bert-tiny-cross-encoder"
REFERENCE = "models.example/tiny:v1"
RESYNC_SECONDS = 10


@pytest.fixture(scope="module", autouse=True)
def tiny(kubectl: Kubectl) -> Iterator[None]:
    """The image; and the operator's setting as it was, in the end."""
    operator = kubectl.within(OPERATOR_NAMESPACE)
    with image(kubectl, REFERENCE, RERANKER, "models/tiny"):
        yield
        kubectl("delete", "em", "--all", "--timeout=60s")
        operator("set", "env", OPERATOR, "IMAGE_VOLUMES=auto", f"{audit.RESYNC}=300")
        operator("rollout", "status", OPERATOR, "--timeout=60s")


def test_its_files_are_copied_into_the_claim(kubectl: Kubectl) -> None:
    """The cluster's Kubernetes is older than 1.35, which is what auto goes by."""
    kubectl.apply(of_image("tiny", "models/tiny"))
    kubectl.wait_for_condition("tiny", "Ready", "True")
    answer = kubectl.answer("http://tiny/rerank", {"query": "a", "documents": ["b"], "model": RERANKER})
    assert answer.status == 200, answer.body
    (claim,) = kubectl.list("pvc")
    assert volume(kubectl)["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    status = (kubectl.get("em", "tiny") or {})["status"]
    assert "resolvedRevision" not in status
    assert "/models/images/" + status["fingerprint"] in kubectl.condition("tiny", "Cached")["message"]


def test_a_folder_that_is_not_in_it_is_told(kubectl: Kubectl) -> None:
    kubectl.apply(of_image("wrong", "nothing"))
    condition = kubectl.wait_for_condition("wrong", "Cached", "False", "FolderNotFound")
    assert "Correct spec.model.source.oci.path" in condition["message"]
    kubectl("delete", "em", "wrong")


def test_where_pods_can_mount_it_they_do_and_nothing_is_copied(kubectl: Kubectl) -> None:
    operator = kubectl.within(OPERATOR_NAMESPACE)
    operator("set", "env", OPERATOR, "IMAGE_VOLUMES=true", f"{audit.RESYNC}={RESYNC_SECONDS}")
    operator("rollout", "status", OPERATOR, "--timeout=60s")
    begun = datetime.now(UTC)
    before = (kubectl.get("em", "tiny") or {})["status"]["fingerprint"]
    kubectl.wait("no claim", lambda: not kubectl.list("pvc"), 120)
    kubectl.wait_for_condition("tiny", "Ready", "True")
    assert volume(kubectl)["image"]["reference"] == REFERENCE
    assert (kubectl.get("em", "tiny") or {})["status"]["fingerprint"] == before
    answer = kubectl.answer("http://tiny/rerank", {"query": "a", "documents": ["b"], "model": RERANKER})
    assert answer.status == 200, answer.body
    kubectl.wait("two looks at it without a write", partial(_is_steady, kubectl, begun), 90)


def test_an_image_that_cannot_be_had_is_told_by_its_name(kubectl: Kubectl) -> None:
    kubectl.apply(of_image("missing", "models", image="localhost:1/none:v1"))
    condition = kubectl.wait_for_condition("missing", "Cached", "False", "ImagePullBackOff")
    assert "image localhost:1/none:v1 cannot be pulled" in condition["message"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"source": {"oci": {"image": "a/b"}, "hub": {}}}, "write one of hub, pvc"),
        ({"source": {"oci": {"image": "oci://a/b"}}}, "without a scheme such as oci://"),
        ({"source": {"oci": {"image": "a/b", "path": "/models"}}}, "from the image's root"),
        ({"source": {"oci": {"image": "a/b"}}, "revision": "v1"}, "leave revision out"),
    ],
)
def test_what_an_image_cannot_be_is_refused(kubectl: Kubectl, spec: Object, words: str) -> None:
    refused = model("refused", RERANKER)
    refused["spec"]["model"] |= spec
    assert words in kubectl("apply", "-f", "-", stdin=json.dumps(refused), check=False)


def _is_steady(kubectl: Kubectl, begun: datetime) -> bool:
    """Whether the operator has compared the resource with the API server, and found nothing to write."""
    asked = audit.requests(kubectl, begun, datetime.now(UTC))
    found = [request for request in asked if request.namespace == kubectl.namespace]
    written = max((request.moment for request in found if request.writes), default=begun)
    looks = [request for request in found if (request.verb, request.name) == ("get", "tiny")]
    return sum(request.moment > written for request in looks) >= 2


def volume(kubectl: Kubectl) -> Object:
    """The volume of the one Deployment's pods that has the model."""
    (deployment,) = kubectl.list("deployments")
    volumes: list[Object] = deployment["spec"]["template"]["spec"]["volumes"]
    return next(found for found in volumes if found["name"] == "models")


def of_image(name: str, path: str, image: str = REFERENCE) -> Object:
    """A resource whose model is in this folder of an image."""
    found = model(name, RERANKER)
    found["spec"]["model"]["source"] = {"oci": {"image": image, "path": path}}
    return found
