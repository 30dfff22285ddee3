"""What all children have in common: owner reference, labels, and the runtime that they run."""

from dataclasses import dataclass
from typing import Any

from embedding_operator import naming
from embedding_operator.api import API_VERSION, KIND, EmbeddingModel


@dataclass(frozen=True)
class Runtime:
    """The runtime's image without -cpu or -cuda, and what pods are told beside their model.

    image_volumes: pods of this cluster can mount images.
    """

    image: str
    pull_policy: str
    hf_endpoint: str
    log_level: str
    log_format: str
    image_volumes: bool = False


def metadata(
    em: EmbeddingModel,
    name: str,
    component: str,
    *,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Returns the metadata of a child that goes when the resource goes."""
    found: dict[str, Any] = {
        "name": name,
        "namespace": em.namespace,
        "labels": naming.labels(em.name, component) | (labels or {}),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": em.name,
                "uid": em.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    if annotations:
        found["annotations"] = annotations
    return found
