"""Pods that fetch the model for themselves, each into a volume of its own that goes with it."""

from typing import Any

from embedding_operator import naming
from embedding_operator.api import EmbeddingModel
from embedding_operator.facts import Facts
from embedding_operator.resources import hub, options, pod
from embedding_operator.resources.meta import Runtime

RETRY_SECONDS = 15
"""How long the container tries again by itself. Then it ends, with its reason, and is started again."""


def volume(em: EmbeddingModel) -> dict[str, Any]:
    """Returns the source of a pod's own volume: a claim of the spec's class, or room on the node's disk."""
    if em.cache.storage_class is None:
        return scratch(em)
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": em.cache.storage_class,
        "resources": {"requests": {"storage": em.cache.size}},
    }
    labels = naming.labels(em.name, "cache")
    return {"ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": labels}, "spec": spec}}}


def scratch(em: EmbeddingModel) -> dict[str, Any]:
    """Returns the source of a volume on the node's disk, of at most the spec's size."""
    return {"emptyDir": {"sizeLimit": em.cache.size} if em.cache.size else {}}


def fetch(em: EmbeddingModel, facts: Facts, runtime: Runtime, server: dict[str, Any]) -> dict[str, Any]:
    """Returns the init container that fetches what facts describe; server is the container that it is for.

    It has the server's image, so that a node pulls one, and its resources but the devices, so that the pod
    needs no more than it does without.
    """
    return {
        "name": naming.FETCH_CONTAINER,
        "image": server["image"],
        "imagePullPolicy": server["imagePullPolicy"],
        "args": ["prefetch", "--unproven"],
        "env": pod.env(
            {
                "MODEL_ID": facts.model,
                "MODEL_REVISION": None if facts.folder else facts.commit,
                "MODEL_PATH": facts.folder,
                "MODEL_TASK": facts.task,
                "MODEL_FILE": facts.file,
                "MODELS_CONFIG": options.PATH,
                "HF_HOME": pod.MODELS,
                "TERMINATION_MESSAGE_PATH": pod.TERMINATION_LOG,
                "PREFETCH_RETRY_SECONDS": RETRY_SECONDS,
                "TMPDIR": "/tmp",  # noqa: S108 - a path in the container
                "LOG_LEVEL": em.server.log_level or runtime.log_level,
                "LOG_FORMAT": em.server.log_format or runtime.log_format,
            }
        )
        + hub.environment(em, runtime),
        "resources": _without_devices(server["resources"]),
    }


def _without_devices(resources: dict[str, Any]) -> dict[str, Any]:
    """Returns the requests and limits of what every node has; devices have a domain in their name."""
    return {
        kind: {name: amount for name, amount in resources[kind].items() if "/" not in name}
        for kind in ("requests", "limits")
        if any("/" not in name for name in resources.get(kind, ()))
    }
