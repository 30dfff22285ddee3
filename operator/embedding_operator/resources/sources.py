"""Where the prefetch Job finds the model's files, by the kind of source."""

import posixpath

from embedding_operator.api import EmbeddingModel
from embedding_operator.resources import hub, pod
from embedding_operator.resources.meta import Runtime


def folder(em: EmbeddingModel) -> str | None:
    """Returns the model's folder in the Job's container and the pods', None where it comes from the hub."""
    pvc = em.source.pvc
    return posixpath.normpath(posixpath.join(pod.MODELS, pvc.path)) if pvc else None


def is_foreign(em: EmbeddingModel) -> bool:
    """Returns whether the model is served from somebody else's claim as it is, which is never written to."""
    return em.source.pvc is not None


def asked(em: EmbeddingModel, runtime: Runtime) -> str | None:
    """Returns the address that the Job asks, empty for the public hub, None where it asks nobody."""
    return None if em.source.pvc else hub.address(em, runtime)
