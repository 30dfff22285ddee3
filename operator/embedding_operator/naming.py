"""Names, labels and annotations of everything that the operator makes. Pure functions of the resource."""

import hashlib
import json
from dataclasses import replace

from embedding_operator.api import GROUP, EmbeddingModel, Key

FIELD_MANAGER = "embedding-operator"
"""Field manager of every server-side apply of desired state."""

RECORD_MANAGER = "embedding-operator-record"
"""Field manager of what is noted on a finished Job, whose immutable template is not sent again."""

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
NAME_LABEL = "app.kubernetes.io/name"
COMPONENT_LABEL = "app.kubernetes.io/component"
MODEL_LABEL = f"{GROUP}/model"
FINGERPRINT_LABEL = f"{GROUP}/fingerprint"
CLAIM_LABEL = f"{GROUP}/claim"
"""On pods that share a volume which one node at a time can use: which claim, so that they find each other."""

NO_NODE_LABEL = f"{GROUP}/no-node-has-this"
"""A label that nobody gives to a node (resources.scheduling)."""

FACTS_ANNOTATION = f"{GROUP}/facts"
"""On a Deployment: what its pods serve, as JSON, so that a restarted operator knows it."""

RESULT_ANNOTATION = f"{GROUP}/result"
"""On a Job: its pod's termination message, which would otherwise go with the pod."""

ATTEMPT_ANNOTATION = f"{GROUP}/attempt"
"""On a Job: how often this has been tried since the source was asked for, from 1."""

PREVIOUS_ANNOTATION = f"{GROUP}/previous-failure"
"""On a Job that is made again after a failure that somebody has to mend: that failure, as JSON."""

SIZE_ANNOTATION = f"{GROUP}/cache-size"
"""On a Job: the claim's size when it was made, so that a larger one is known as a reason to try again."""

COMMIT_ANNOTATION = f"{GROUP}/commit"
"""On a Job that asks what a followed revision means: the commit that it meant before."""

SIZE_REASON_ANNOTATION = f"{GROUP}/size-reason"
"""On a claim whose size the spec does not name: how it was worked out."""

PAUSED_ANNOTATION = f"{GROUP}/paused"
"""On a resource, by its user: "true" stops every write of the operator but that of the status."""

RETRY_ANNOTATION = f"{GROUP}/retry-rollout"
"""On a resource, by its user: another value tries a template again that was rolled back."""

TEMPLATE_ANNOTATION = f"{GROUP}/template"
"""On a Deployment: the digest of the pod template that it was given."""

ROOM_ANNOTATION = f"{GROUP}/room-since"
"""On a Deployment: since when pods of before leave to make room for its own, while they do."""

FAILURE_ANNOTATION = f"{GROUP}/failure"
"""On a ControllerRevision: why its template did not become ready, as JSON; absent where it did."""

OPTIONS_ANNOTATION = f"{GROUP}/options"
"""On a Job: the options of spec.model that it reads the model with (source.Source.options)."""

PLACEMENT_ANNOTATION = f"{GROUP}/placement"
"""On a Job: digest of the spec's rules about where it may run, since a Job's template cannot be changed."""

RETAINED_ANNOTATION = f"{GROUP}/retained"
"""On a claim: it has no owner, and belongs to the next resource of the same name and model (retained_as)."""

CHILD_SELECTOR = f"{MANAGED_BY_LABEL}={FIELD_MANAGER}"
"""Label selector of every child; watches are filtered by it in the API server."""

CERTIFICATES_VOLUME = "hub-certificates"
"""The Job's volume with the certificates that the hub's own is checked against."""

CONTAINER = "server"
PREFETCH_CONTAINER = "prefetch"
FETCH_CONTAINER = "fetch"
"""The init container of pods that fetch the model for themselves."""

CLEAR_CONTAINER, COPY_CONTAINER = "clear", "copy"
"""The Job's init containers that bring files out of an image into the claim."""

MODELS_VOLUME, PREPARED_VOLUME = "models", "prepared"

METRICS_PORT = 9090
"""A port of the server's own for /metrics and /health, so that neither needs an API key."""


def owner_key(namespace: str, labels: dict[str, str] | None) -> Key | None:
    """Returns the resource that a child's labels name, None where they name none."""
    name = (labels or {}).get(MODEL_LABEL)
    return Key(namespace, name) if name else None


def is_labelled(labels: dict[str, str] | None) -> bool:
    """Returns whether an object carries the label that the watches are filtered by."""
    return (labels or {}).get(MANAGED_BY_LABEL) == FIELD_MANAGER


def labels(name: str, component: str) -> dict[str, str]:
    """Returns the labels of a child of the resource called name.

    app.kubernetes.io/instance is left out: Argo CD prunes what carries a copied one.
    """
    return {
        MANAGED_BY_LABEL: FIELD_MANAGER,
        NAME_LABEL: "embedding-runtime",
        COMPONENT_LABEL: component,
        MODEL_LABEL: name,
    }


def selector(name: str, fingerprint: str) -> dict[str, str]:
    """Returns the labels by which a Deployment and the Service select the pods of one set."""
    return {MODEL_LABEL: name, COMPONENT_LABEL: "serving", FINGERPRINT_LABEL: short(fingerprint)}


def short(fingerprint: str) -> str:
    """Returns the 8 hex digits that names and labels carry."""
    return fingerprint[:8]


def claim(em: EmbeddingModel) -> str:
    """Returns the claim's name: the spec's, else one per source and revision, and per place of the claim.

    Empty where pods share none.

    What cannot be changed on a claim (class, access mode) and what decides where it is bound (the nodes
    with the GPU, or with certain labels) is part of the hash, so that a change means a new claim beside the
    one in use.
    """
    if em.claimless:
        return ""
    return em.existing_claim or f"{em.name}-{_digest(*_source(em))}"


def retained_as(em: EmbeddingModel) -> str:
    """Returns the text of RETAINED_ANNOTATION: the same for all commits that a revision is followed to."""
    if not em.source.follows:
        return "true"
    return claim(replace(em, source=replace(em.source, commit=None)))


def claim_label(claim: str) -> str:
    """Returns a claim's name as the value of a label, which may be shorter than a name."""
    return claim if len(claim) <= 63 else _digest(claim)


def _source(em: EmbeddingModel) -> list[str]:
    files = [em.source.id, em.source.at, em.source.file or ""]
    url, oci = em.source.url, em.source.oci
    place = [f"url:{url.sha256}:{url.path}"] if url else []
    place += [f"oci:{oci.image}:{oci.path}"] if oci else []
    if em.claimless:
        return [*files, *place, *(["per-replica"] if em.cache.per_replica else [])]
    return [
        *files,
        em.cache.storage_class or "",
        em.cache.access_mode,
        em.gpu.resource_name if em.gpu else "",
        *_devices(em),
        *_nodes(em),
        *([em.existing_claim] if em.existing_claim else []),
        *([f"pvc:{em.source.pvc.path}"] if em.source.pvc else []),
        *place,
    ]


def _devices(em: EmbeddingModel) -> list[str]:
    """Returns which devices are claimed, as text: others may be on other nodes."""
    claims = em.gpu.claims if em.gpu else ()
    return [json.dumps([claim.claim, claim.template]) for claim in claims]


def _digest(*parts: str) -> str:
    return hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:8]


def _nodes(em: EmbeddingModel) -> list[str]:
    """Returns the rules that keep pods off nodes for good, as text; nothing where there are none."""
    given = em.scheduling
    nodes = (given.affinity or {}).get("nodeAffinity") or {}
    required = nodes.get("requiredDuringSchedulingIgnoredDuringExecution")
    return [json.dumps(rule, sort_keys=True) for rule in (given.node_selector, required) if rule]


def job(em: EmbeddingModel) -> str:
    """Returns the prefetch Job's name: one per claim, task and options; these share their download."""
    options = [em.source.options] if em.source.options else []
    return f"{em.name}-{_digest(*_source(em), *options)}-{em.source.task}"


def sizing_job(em: EmbeddingModel) -> str:
    """Returns the name of the Job that asks how large the model is, before there is a claim for it."""
    parts = [em.source.id, em.source.at, em.source.file or "", em.source.options]
    return f"{em.name}-{_digest(*parts)}-size"


def check_jobs(em: EmbeddingModel) -> tuple[str, str]:
    """Returns the names of the Jobs that ask, one after the other, what a followed revision means.

    There are two, so that an answer is there until the watches show the next Job.
    """
    name = f"{em.name}-{_digest(em.source.id, em.source.revision)}-check"
    return f"{name}-0", f"{name}-1"


def deployment(em: EmbeddingModel, fingerprint: str) -> str:
    """Returns the Deployment's name: one per fingerprint."""
    return f"{em.name}-{short(fingerprint)}"


def revision(deployment: str, digest: str) -> str:
    """Returns the name of the ControllerRevision that keeps a Deployment's pod template."""
    return f"{deployment}-{digest}"


def url(em: EmbeddingModel) -> str:
    """Returns where applications in the cluster reach the model."""
    port = "" if em.service.port == 80 else f":{em.service.port}"
    return f"http://{em.name}.{em.namespace}.svc{port}"
