"""What the prefetch Job is given to reach a hub, or an archive: address, token, certificates, proxy."""

from typing import Any

from embedding_operator import naming
from embedding_operator.api import EmbeddingModel
from embedding_operator.resources import pod
from embedding_operator.resources.meta import Runtime

CERTIFICATES, BUNDLE = "/etc/embedding-runtime/hub", "ca.crt"
"""The ConfigMap's folder and the file in it."""


def address(em: EmbeddingModel, runtime: Runtime) -> str:
    """Returns the address of the hub that the model is fetched from, empty for the public one."""
    return em.source.hub.endpoint or runtime.hf_endpoint


def environment(em: EmbeddingModel, runtime: Runtime) -> list[dict[str, Any]]:
    """Returns the variables of the Job's container. The operator never reads the token."""
    way, archive = em.source.way, em.source.url
    proxy = way.proxy.url if way.proxy else None
    found = pod.env(
        {
            "HF_ENDPOINT": None if archive else address(em, runtime) or None,
            "MODEL_URL": archive.url if archive else None,
            "MODEL_SHA256": archive.sha256 if archive else None,
            "SSL_CERT_FILE": f"{CERTIFICATES}/{BUNDLE}" if way.ca_bundle else None,
            "HTTPS_PROXY": proxy,
            "HTTP_PROXY": proxy,
            "NO_PROXY": ",".join(way.proxy.no_proxy) or None if way.proxy else None,
        }
    )
    if way.token is not None:
        ref = {"name": way.token.name, "key": way.token.key}
        variable = "MODEL_URL_TOKEN" if archive else "HF_TOKEN"
        found.append({"name": variable, "valueFrom": {"secretKeyRef": ref}})
    return found


def mount_certificates(em: EmbeddingModel, spec: dict[str, Any], into: dict[str, Any] | None = None) -> None:
    """Adds the certificates to a pod, where the spec names some; into: for this container alone."""
    bundle = em.source.way.ca_bundle
    if bundle is not None:
        items = [{"key": bundle.key, "path": BUNDLE}]
        source = {"configMap": {"name": bundle.name, "items": items}}
        pod.mount(
            spec,
            name=naming.CERTIFICATES_VOLUME,
            path=CERTIFICATES,
            source=source,
            into=[into] if into else None,
        )
