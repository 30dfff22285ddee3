"""The Service in front of the set that serves."""

from typing import Any

from embedding_operator import naming
from embedding_operator.api import EmbeddingModel
from embedding_operator.resources.meta import metadata


def service(em: EmbeddingModel, fingerprint: str) -> dict[str, Any]:
    """Returns the Service, named like the resource, that sends port 80 to the pods of this fingerprint."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(em, em.name, "serving"),
        "spec": {
            "type": "ClusterIP",
            "selector": naming.selector(em.name, fingerprint),
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    }
