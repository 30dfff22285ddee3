"""The files of an image in a claim: what the Job does where pods cannot mount the image itself.

The image's own cp copies them to a place of the Job's; the prefetch gives them a name when it has proven
them. So a copy that was broken off is never taken for a whole one, and what is served is never written to.
"""

from typing import Any

from embedding_operator import naming
from embedding_operator.api import EmbeddingModel
from embedding_operator.cache import copying
from embedding_operator.resources import pod
from embedding_operator.resources.meta import Runtime

STORE = f"{pod.MODELS}/images"
"""Where proven copies are kept, each by its fingerprint."""


def incoming(em: EmbeddingModel) -> str:
    """Returns the folder's name that the Job copies to, from the claim's root."""
    return f".{naming.job(em)}"


def start(em: EmbeddingModel, runtime: Runtime, spec: dict[str, Any]) -> None:
    """Adds to the Job's pod what comes before its prefetch; nothing where there is nothing to copy."""
    oci = em.source.oci
    if oci is None or oci.is_volume:
        return
    clear = {
        "name": naming.CLEAR_CONTAINER,
        "image": f"{runtime.image}-cpu",
        "imagePullPolicy": runtime.pull_policy,
        "command": ["rm", "-rf", f"{pod.MODELS}/{incoming(em)}"],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
    }
    copy = {
        "name": naming.COPY_CONTAINER,
        "image": oci.image,
        "command": ["cp", "-rL", f"/{oci.path}", f"{copying.TARGET}/{incoming(em)}"],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
    }
    if oci.pull_policy is not None:
        copy["imagePullPolicy"] = oci.pull_policy
    pod.start_with(spec, clear)
    pod.start_with(spec, copy, at=copying.TARGET)
