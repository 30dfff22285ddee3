"""Where the prefetch Job finds the model's files, by the kind of source."""

import posixpath
from typing import Any

from embedding_operator.api import EmbeddingModel
from embedding_operator.resources import copied, hub, pod
from embedding_operator.resources.meta import Runtime
from embedding_operator.source import origin


def folder(em: EmbeddingModel) -> str | None:
    """Returns the model's folder in the Job's container and the pods', None where it comes from the hub."""
    pvc, url, oci = em.source.pvc, em.source.url, em.source.oci
    if oci is not None:
        return f"{pod.MODELS}/{oci.path if oci.is_volume else copied.incoming(em)}"
    if pvc is not None:
        return posixpath.normpath(posixpath.join(pod.MODELS, pvc.path))
    # where the runtime unpacks an archive to, which is its contract
    return posixpath.normpath(posixpath.join(pod.MODELS, "archives", url.sha256, url.path)) if url else None


def is_foreign(em: EmbeddingModel) -> bool:
    """Returns whether the model is served from somebody else's claim as it is, which is never written to."""
    return em.source.pvc is not None


def image(em: EmbeddingModel, reference: str) -> dict[str, Any]:
    """Returns an image as a volume's source; one that the spec no longer names is taken where it is."""
    oci = em.source.oci
    policy = oci.pull_policy if oci is not None and oci.image == reference else None
    return {"image": {"reference": reference} | ({"pullPolicy": policy} if policy else {})}


def asked(em: EmbeddingModel, runtime: Runtime) -> str | None:
    """Returns whom the Job asks: a hub's address, empty for the public one, or the host of an archive.

    None where it asks nobody.
    """
    if em.source.url is not None:
        return origin(em.source.url.url)
    return hub.address(em, runtime) if em.source.is_hub else None
