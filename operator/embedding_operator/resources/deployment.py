"""The Deployment of one set: the pods that serve one fingerprint."""

from typing import Any

from embedding_operator import naming
from embedding_operator.api import EmbeddingModel
from embedding_operator.facts import Facts
from embedding_operator.resources import pod
from embedding_operator.resources.meta import Runtime, metadata

PORT = 8090


def deployment(em: EmbeddingModel, facts: Facts, runtime: Runtime) -> dict[str, Any]:
    """Returns the Deployment that serves what facts describe, as the spec asks for pods now.

    facts need not be those of the spec's model: while a new one is fetched, the old set goes on.
    """
    selector = naming.selector(em.name, facts.fingerprint)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(
            em,
            naming.deployment(em, facts.fingerprint),
            "serving",
            labels={naming.FINGERPRINT_LABEL: naming.short(facts.fingerprint)},
            annotations={naming.FACTS_ANNOTATION: facts.to_json()},
        ),
        "spec": {
            "replicas": em.replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": 600,
            "strategy": _strategy(em),
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {"labels": naming.labels(em.name, "serving") | selector},
                "spec": _pod(em, facts, runtime, selector),
            },
        },
    }


def _strategy(em: EmbeddingModel) -> dict[str, Any]:
    # a surge pod would wait for ever where the set itself holds the only GPU
    surge, unavailable = (0, 1) if em.gpu else (1, 0)
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def _pod(em: EmbeddingModel, facts: Facts, runtime: Runtime, selector: dict[str, str]) -> dict[str, Any]:
    spec = pod.pod_spec(
        _container(em, facts, runtime),
        claim=facts.claim,
        read_only=True,
        scratch="2Gi",
        grace_seconds=60,
    )
    spec["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector},
        }
    ]
    if em.gpu:
        spec["tolerations"] = pod.tolerations(em.gpu)
        if em.gpu.runtime_class is not None:
            spec["runtimeClassName"] = em.gpu.runtime_class
    return spec


def _container(em: EmbeddingModel, facts: Facts, runtime: Runtime) -> dict[str, Any]:
    model = f"{facts.model}@{facts.commit}"
    return {
        "name": naming.CONTAINER,
        "image": em.image or f"{runtime.image}-{em.provider}",
        "imagePullPolicy": runtime.pull_policy,
        "args": ["serve"],
        "env": pod.env(
            {
                "DEFAULT_EMBEDDING_MODEL": model if facts.task == "embed" else "",
                "DEFAULT_RERANKING_MODEL": model if facts.task == "rerank" else "",
                "MODEL_FILE": facts.file,
                "EXPECTED_FINGERPRINT": facts.fingerprint,
                "HF_HOME": pod.MODELS,
                "HF_HUB_OFFLINE": "1",
                "ORT_EXECUTION_PROVIDER": em.provider,
                "API_HOST": "0.0.0.0",
                "API_PORT": str(PORT),
                "API_WORKERS": "1",
                "TMPDIR": "/tmp",  # noqa: S108 - a path in the container
                "LOG_LEVEL": runtime.log_level,
                "LOG_FORMAT": runtime.log_format,
            }
        ),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": _resources(em),
        # the HTTP process answers /health/live while the model loads: start-up is short, whatever the model's
        # size
        "startupProbe": _probe("/health/live", period=1, failures=120),
        "livenessProbe": _probe("/health/live", period=10, failures=3),
        "readinessProbe": _probe("/health/ready", period=2, failures=3),
    }


def _resources(em: EmbeddingModel) -> dict[str, Any]:
    """The spec's resources, or the default by device, which the CRD describes; a GPU is requested and
    limited.

    No CPU limit: throttling a latency-bound server costs more than it protects.
    """
    given = em.resources or {}
    default = {"cpu": "1", "memory": "4Gi"} if em.gpu else {"cpu": "500m", "memory": "1Gi"}
    requests = dict(given.get("requests") or ({} if em.resources else default))
    limits = dict(given.get("limits") or {})
    if em.gpu:
        requests[em.gpu.resource_name] = limits[em.gpu.resource_name] = str(em.gpu.count)
    return {name: values for name, values in (("requests", requests), ("limits", limits)) if values}


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
