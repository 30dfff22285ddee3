"""Where the prefetch Job finds the model's files, by the kind of source."""

import posixpath

from embedding_operator.api import EmbeddingModel
from embedding_operator.resources import hub, pod
from embedding_operator.resources.meta import Runtime
from embedding_operator.source import origin


def folder(em: EmbeddingModel) -> str | None:
    """Returns the model's folder in the Job's container and the pods', None where it comes from the hub."""
    pvc, url = em.source.pvc, em.source.url
    if pvc is not None:
        return posixpath.normpath(posixpath.join(pod.MODELS, pvc.path))
    # where the runtime unpacks an archive to, which is its contract
    return posixpath.normpath(posixpath.join(pod.MODELS, "archives", url.sha256, url.path)) if url else None


def is_foreign(em: EmbeddingModel) -> bool:
    """Returns whether the model is served from somebody else's claim as it is, which is never written to."""
    return em.source.pvc is not None


def asked(em: EmbeddingModel, runtime: Runtime) -> str | None:
    """Returns whom the Job asks: a hub's address, empty for the public one, or the host of an archive.

    None where it asks nobody.
    """
    if em.source.url is not None:
        return origin(em.source.url.url)
    return None if em.source.pvc else hub.address(em, runtime)
