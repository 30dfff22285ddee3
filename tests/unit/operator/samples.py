"""Objects that the tests are about: a resource, a prefetch's result, and what controllers write."""

import json
from datetime import UTC, datetime
from typing import Any

from embedding_operator import api, naming
from embedding_operator.api import EmbeddingModel
from embedding_operator.facts import Facts, Resolution
from embedding_operator.resources import resolve
from embedding_operator.resources.meta import Runtime

RUNTIME = Runtime("embedding-runtime:0.1.0", "IfNotPresent", "http://hub.example", "info", "json")
AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
COMMIT = "c" * 40
FINGERPRINT = "ab" * 32
OTHER = "cd" * 32


def model_body(name: str = "minilm", **spec: Any) -> dict[str, Any]:
    """An EmbeddingModel as the API server stores it, defaults included."""
    spec.setdefault("model", {})
    spec["model"] = {
        "id": "sentence-transformers/all-MiniLM-L6-v2", "revision": "main", "task": "auto"
    } | spec["model"]  # fmt: skip
    spec["cache"] = {"size": "5Gi", "accessMode": "ReadWriteOnce"} | spec.get("cache", {})
    spec.setdefault("replicas", 2)
    return {
        "apiVersion": api.API_VERSION,
        "kind": api.KIND,
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": "owner-uid",
            "generation": 1,
            "creationTimestamp": "2026-01-01T11:59:00Z",
        },
        "spec": spec,
    }


def model(name: str = "minilm", *, image_volumes: bool = False, **spec: Any) -> EmbeddingModel:
    """The typed view of model_body."""
    return api.parse(model_body(name, **spec), image_volumes=image_volumes)


SHAPE = {"layers": 6, "hidden": 384, "heads": 12}
"""That of all-MiniLM-L6-v2, which the Job reports."""

GPU = {"count": 1, "resourceName": "nvidia.com/gpu"}


def facts(em: EmbeddingModel, **changes: Any) -> Facts:
    """What a good prefetch of the resource's source finds."""
    found: dict[str, Any] = {
        "model": em.source.id,
        "commit": COMMIT,
        "fingerprint": FINGERPRINT,
        "task": "embed",
        "dimensions": 384,
        "max_tokens": 256,
        "bytes": 90_900_000,
        "precision": "fp32",
        "file": em.source.file,
        "claim": naming.claim(em),
        "job": naming.job(em),
        "options": em.source.options,
    }
    return Facts(**found | changes)


def ok(**changes: Any) -> dict[str, Any]:
    """The termination message of a prefetch that went well."""
    return {
        "status": "ok",
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "commit": COMMIT,
        "fingerprint": FINGERPRINT,
        "task": "embed",
        "dimensions": 384,
        "maxTokens": 256,
        "bytes": 90_900_000,
        "precision": "fp32",
        "file": "onnx/model.onnx",
    } | changes


def resolved(**changes: Any) -> dict[str, Any]:
    """The termination message of a Job that only asked."""
    found = {
        "status": "resolved",
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "commit": COMMIT,
        "bytes": 90_900_000,
    }
    return found | changes


def error(kind: str, message: str, *, permanent: bool, retry_after: float | None = None) -> dict[str, Any]:
    """The termination message of a prefetch that failed."""
    return {
        "status": "error",
        "error": {"class": kind, "message": message, "permanent": permanent, "retryAfter": retry_after},
    }


def resolution() -> Resolution:
    """What resolved says."""
    return Resolution(COMMIT, 90_900_000)


def ended_job(em: EmbeddingModel, name: str, result: dict[str, Any]) -> dict[str, Any]:
    """A Job that only asked, and has ended with this result."""
    body = resolve.job(em, RUNTIME, name, em.source.revision)
    body["metadata"] |= {"uid": name, "creationTimestamp": "2026-01-01T12:00:00Z"}
    body["metadata"]["annotations"][naming.RESULT_ANNOTATION] = json.dumps(result)
    kind = "Failed" if result["status"] == "error" else "Complete"
    found = {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T12:00:10Z"}
    return body | {"status": {"conditions": [found]}}


def pod(name: str, **status: Any) -> dict[str, Any]:
    """A pod with this status."""
    return {"kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": {}, "status": status}


def container_status(name: str, state: dict[str, Any], **rest: Any) -> list[dict[str, Any]]:
    """containerStatuses with one container in this state."""
    return [{"name": name, "image": f"{name}:1", "state": state, "ready": False} | rest]


def unscheduled(message: str) -> list[dict[str, str]]:
    """Conditions of a pod that the scheduler could not place."""
    return [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
