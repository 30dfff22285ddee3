"""The claim that holds a model's files, and the Job that fills it."""

from collections.abc import Sequence
from typing import Any

from embedding_operator import facts, naming
from embedding_operator.api import EmbeddingModel
from embedding_operator.cache.sizing import Size
from embedding_operator.facts import Failure
from embedding_operator.resources import copied, hub, options, pod, replica, scheduling, sources
from embedding_operator.resources.jobs import PREFETCH_RETRY_SECONDS, spec
from embedding_operator.resources.meta import Runtime, metadata


def claim(em: EmbeddingModel, size: Size) -> dict[str, Any]:
    """Returns the resource's own claim at this size."""
    notes = {naming.SIZE_REASON_ANNOTATION: size.reason} if size.measured else {}
    found = metadata(em, naming.claim(em), "cache", annotations=notes)
    asked: dict[str, Any] = {
        "accessModes": [em.cache.access_mode],
        "resources": {"requests": {"storage": size.quantity}},
    }
    if em.cache.storage_class is not None:
        asked["storageClassName"] = em.cache.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _retained(em, found) if em.cache.retention == "Retain" else found,
        "spec": asked,
    }


def _retained(em: EmbeddingModel, found: dict[str, Any]) -> dict[str, Any]:
    """Returns the metadata of a claim that stays when the resource goes."""
    kept = {name: value for name, value in found.items() if name != "ownerReferences"}
    return kept | {
        "annotations": found.get("annotations", {}) | {naming.RETAINED_ANNOTATION: naming.retained_as(em)}
    }


def _volume(em: EmbeddingModel) -> dict[str, Any]:
    """Returns the source of the Job's volume: the claim, or a place that goes with its pod."""
    claim, oci = naming.claim(em), em.source.oci
    if oci is not None and oci.is_volume:
        return sources.image(em, oci.image)
    return pod.claimed(claim, foreign=sources.is_foreign(em)) if claim else replica.scratch(em)


def _is_kept(em: EmbeddingModel) -> bool:
    """Returns whether what the Job writes is there for the pods that serve."""
    return bool(naming.claim(em)) and not sources.is_foreign(em) and not em.source.is_mounted


def job(
    em: EmbeddingModel,
    runtime: Runtime,
    *,
    commit: str | None = None,
    attempt: int = 1,
    hosts: Sequence[str] | None = None,
    before: Failure | None = None,
) -> dict[str, Any]:
    """Returns the prefetch Job. hosts are the nodes (kubernetes.io/hostname) that it has to run on, None any.

    before is what the attempt before failed of, where somebody has to mend it.

    commit is what the revision was resolved to before, None the first time: a branch that has moved since
    changes nothing.

    A claim is bound to the node of the first pod that uses it where the storage is node-local, so the Job
    runs where the serving pods can.
    """
    folder, foreign = sources.folder(em), sources.is_foreign(em)
    container = {
        "name": naming.PREFETCH_CONTAINER,
        "image": f"{runtime.image}-cpu",
        "imagePullPolicy": runtime.pull_policy,
        "args": ["prefetch"],
        "env": pod.env(
            {
                "MODEL_ID": em.source.id,
                "MODEL_REVISION": None if folder else commit or em.source.at,
                "MODEL_PATH": folder,
                "MODEL_STORE": copied.STORE if em.source.is_copied else None,
                "MODEL_TASK": em.source.task,
                "MODEL_FILE": em.source.file,
                "MODELS_CONFIG": options.PATH if em.source.options else None,
                "HF_HOME": pod.MODELS,
                # a volume that goes with the Job's pod, or is only read, is no place to leave a graph in
                "PREPARED_CACHE_DIR": None if _is_kept(em) else "",
                "TERMINATION_MESSAGE_PATH": pod.TERMINATION_LOG,
                # what is not in a folder now will hardly be there a moment later
                "PREFETCH_RETRY_SECONDS": str(PREFETCH_RETRY_SECONDS),
                "TMPDIR": "/tmp",  # noqa: S108 - a path in the container
                "LOG_LEVEL": runtime.log_level,
                "LOG_FORMAT": runtime.log_format,
            }
        )
        + ([] if foreign else hub.environment(em, runtime)),
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}},
    }
    template = pod.pod_spec(
        container,
        models=_volume(em),
        read_only=foreign or em.source.is_mounted,
        scratch="1Gi",
        grace_seconds=10,
    )
    template["restartPolicy"] = "Never"
    copied.start(em, runtime, template)
    hub.mount_certificates(em, template)
    config = options.fetching(em)
    if config is not None:
        options.mount(template, config)
    template |= scheduling.placement(em, naming.claim(em), hosts)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(
            em,
            naming.job(em),
            "prefetch",
            annotations={
                naming.ATTEMPT_ANNOTATION: str(attempt),
                **({naming.SIZE_ANNOTATION: em.cache.size} if em.cache.size else {}),
                naming.PLACEMENT_ANNOTATION: scheduling.digest(em, naming.claim(em)),
            }
            | ({naming.OPTIONS_ANNOTATION: em.source.options} if em.source.options else {})
            | ({naming.PREVIOUS_ANNOTATION: facts.failure_text(before)} if before else {}),
        ),
        "spec": spec(naming.labels(em.name, "prefetch") | scheduling.labels(em, naming.claim(em)), template),
    }
