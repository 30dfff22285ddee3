"""The budget that keeps a drain from taking all pods of the served set at once."""

from typing import Any

from embedding_operator import naming
from embedding_operator.api import EmbeddingModel
from embedding_operator.resources.meta import metadata


def budget(em: EmbeddingModel, fingerprint: str, *, gives_way: bool = False) -> dict[str, Any]:
    """Returns the PodDisruptionBudget, named like the resource, of the pods behind the Service.

    maxUnavailable: 1 lets a drain go on with a single replica too. AlwaysAllow lets it take pods that are not
    ready: they serve nobody, and would hold it up for ever. Pods of a set that only comes up are not counted,
    or a new model that cannot start would hold up the drain of what serves. gives_way: all may go at once.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(em, em.name, "serving"),
        "spec": {
            "maxUnavailable": "100%" if gives_way else 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": naming.selector(em.name, fingerprint)},
        },
    }
