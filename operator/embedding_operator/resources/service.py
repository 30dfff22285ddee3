"""The Service in front of the set that serves."""

from typing import Any

from embedding_operator import naming
from embedding_operator.api import EmbeddingModel
from embedding_operator.resources.meta import metadata


def service(em: EmbeddingModel, fingerprint: str) -> dict[str, Any]:
    """Returns the Service, named like the resource, that sends its port to the pods of this fingerprint."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(em, em.name, "serving", annotations=dict(em.service.annotations)),
        "spec": {
            "type": em.service.type,
            "selector": naming.selector(em.name, fingerprint),
            "ports": [{"name": "http", "port": em.service.port, "targetPort": "http", "protocol": "TCP"}],
        },
    }
