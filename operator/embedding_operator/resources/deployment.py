"""The Deployment of one set: the pods that serve one fingerprint."""

from dataclasses import replace
from typing import Any

from embedding_operator import naming
from embedding_operator.api import DeviceClaim, EmbeddingModel
from embedding_operator.facts import Facts
from embedding_operator.resources import hub, merge, options, pod, replica, scheduling, sources
from embedding_operator.resources.meta import Runtime, metadata
from embedding_operator.sets import footprint
from embedding_operator.sets.footprint import Needs

PORT = 8090
GRACE_SECONDS = 10
"""What the kubelet allows beyond the server's own time for shutting down."""

GIB = 1 << 30
_UNKNOWN_BYTES = 5 * GIB
"""How large a model is taken to be that nobody has told the size of."""

API_KEY, API_KEY_FILE = "/etc/embedding-runtime/api-key", "keys"
"""The Secret's folder and the file in it; a folder, since a file mounted by itself is never renewed."""


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
            "progressDeadlineSeconds": em.rollout.progress_deadline,
            "strategy": strategy(replace=em.rollout.surge == "Replace"),
            "selector": {"matchLabels": selector},
            "template": merge.merged(_template(em, facts, runtime, selector), em.pod_template),
        },
    }


def strategy(*, replace: bool) -> dict[str, Any]:
    """Returns how a Deployment exchanges its pods: one leaves first (replace), or one is added first."""
    surge, unavailable = (0, 1) if replace else (1, 0)
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def _template(em: EmbeddingModel, facts: Facts, runtime: Runtime, selector: dict[str, str]) -> dict[str, Any]:
    labels = naming.labels(em.name, "serving") | selector | scheduling.labels(em, facts.claim)
    return {"metadata": {"labels": labels}, "spec": _pod(em, facts, runtime, selector)}


def _pod(em: EmbeddingModel, facts: Facts, runtime: Runtime, selector: dict[str, str]) -> dict[str, Any]:
    spec = pod.pod_spec(
        _container(em, facts, runtime),
        models=_models(em, facts),
        read_only=True,
        scratch="2Gi",
        grace_seconds=em.server.shutdown_timeout + GRACE_SECONDS,
    )
    pod.add_scratch(
        spec, spec["containers"][0], name=naming.PREPARED_VOLUME, path=pod.PREPARED, size=_prepared(facts)
    )
    if not facts.claim and not facts.image:
        fetching = pod.start_with(spec, replica.fetch(em, facts, runtime, spec["containers"][0]))
        hub.mount_certificates(em, spec, fetching)
    if em.server.api_key is not None:
        pod.mount(
            spec,
            name="api-key",
            path=API_KEY,
            source={
                "secret": {
                    "secretName": em.server.api_key.name,
                    "items": [{"key": em.server.api_key.key, "path": API_KEY_FILE}],
                    "defaultMode": 0o440,
                }
            },
        )
    options.mount(spec, options.serving(em, facts))
    spec |= scheduling.placement(em, facts.claim)
    if constraints := scheduling.spread(em, selector):
        spec["topologySpreadConstraints"] = constraints
    if em.gpu and em.gpu.runtime_class is not None:
        spec["runtimeClassName"] = em.gpu.runtime_class
    if em.gpu and em.gpu.claims:
        spec["resourceClaims"] = [_claim(claim) for claim in em.gpu.claims]
    return spec


def _prepared(facts: Facts) -> str:
    """Returns the room for a graph made of the model: its claim may hold none, or be nobody's to write."""
    return f"{1 + -(-(facts.bytes or _UNKNOWN_BYTES) // GIB)}Gi"


def _models(em: EmbeddingModel, facts: Facts) -> dict[str, Any]:
    """Returns the source of the volume with the model's files."""
    if facts.claim:
        return pod.claimed(facts.claim, foreign=facts.foreign)
    return sources.image(em, facts.image) if facts.image else replica.volume(em)


def _container(em: EmbeddingModel, facts: Facts, runtime: Runtime) -> dict[str, Any]:
    return {
        "name": naming.CONTAINER,
        "image": em.image or f"{runtime.image}-{em.provider}",
        "imagePullPolicy": runtime.pull_policy,
        "args": ["serve"],
        "env": _env(em, facts, runtime),
        "ports": [
            {"name": "http", "containerPort": PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": naming.METRICS_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(em, facts),
        # the HTTP process answers /health/live while the model loads: start-up is short, whatever the model's
        # size
        "startupProbe": _probe("/health/live", period=1, failures=120),
        "livenessProbe": _probe("/health/live", period=10, failures=3),
        # a pod that has to go still passes it: the last one behind a Service is sent requests until its
        # successor is ready (https://kubernetes.io/docs/tutorials/services/pods-and-endpoint-termination-flow/)
        "readinessProbe": _probe("/health/serving", period=2, failures=3),
    }


def _env(em: EmbeddingModel, facts: Facts, runtime: Runtime) -> list[dict[str, Any]]:
    """The variables, the spec's own last: the schema refuses in it what is set here."""
    model = facts.model if facts.folder else f"{facts.model}@{facts.commit}"
    server = em.server
    given = pod.env(
        {
            "DEFAULT_EMBEDDING_MODEL": model if facts.task == "embed" else "",
            "DEFAULT_RERANKING_MODEL": model if facts.task == "rerank" else "",
            "MODEL_FILE": facts.file,
            "MODELS_CONFIG": options.PATH,
            "ALLOWED_MODELS": facts.model,
            "EXPECTED_FINGERPRINT": facts.fingerprint,
            "HF_HOME": pod.MODELS,
            "HF_HUB_OFFLINE": "1",
            "PREPARED_CACHE_DIR": pod.PREPARED,
            "ORT_EXECUTION_PROVIDER": em.provider,
            "API_HOST": "0.0.0.0",
            "API_PORT": PORT,
            "METRICS_PORT": naming.METRICS_PORT,
            "API_WORKERS": server.workers,
            "API_KEY_FILE": f"{API_KEY}/{API_KEY_FILE}" if server.api_key else None,
            "MAX_EMBEDDING_BATCH_SIZE": server.max_embedding_batch_size,
            "MAX_RERANKING_BATCH_SIZE": server.max_reranking_batch_size,
            "MAX_BATCH_TOKENS": server.max_batch_tokens,
            "MAX_QUEUE_TOKENS": server.max_queue_tokens,
            "MAX_QUEUE_WAIT_MS": server.max_queue_wait,
            "ORT_NUM_THREADS": server.threads,
            "DRAIN_DELAY_SECS": server.drain_delay,
            "SHUTDOWN_TIMEOUT_SECS": server.shutdown_timeout,
            "OTEL_EXPORTER_OTLP_ENDPOINT": server.otlp_endpoint,
            "TMPDIR": "/tmp",  # noqa: S108 - a path in the container
            "LOG_LEVEL": server.log_level or runtime.log_level,
            "LOG_FORMAT": server.log_format or runtime.log_format,
        }
    )
    # what a machine cannot compute the server refuses by the node's name, not by the pod's
    given.append(
        {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}}
    )
    names = {item["name"] for item in given}
    # an object stored before a rule of the schema existed may still name one of ours
    return given + [merge.stored(item) for item in em.env if item["name"] not in names]


def resources(em: EmbeddingModel, facts: Facts) -> Needs:
    """Returns what the serving container asks for, with its GPUs, which are requested and limited."""
    found = footprint.needs(em, facts)
    gpus = {em.gpu.resource_name: str(em.gpu.count)} if em.gpu and em.gpu.count else {}
    return replace(found, requests={**found.requests, **gpus}, limits={**found.limits, **gpus})


def _resources(em: EmbeddingModel, facts: Facts) -> dict[str, Any]:
    found = resources(em, facts)
    claims = [
        {"name": claim.name} | ({"request": claim.request} if claim.request else {})
        for claim in (em.gpu.claims if em.gpu else ())
    ]
    parts = {"requests": dict(found.requests), "limits": dict(found.limits), "claims": claims}
    return {name: values for name, values in parts.items() if values}


def _claim(claim: DeviceClaim) -> dict[str, Any]:
    found = {
        "name": claim.name,
        "resourceClaimName": claim.claim,
        "resourceClaimTemplateName": claim.template,
    }
    return {name: value for name, value in found.items() if value is not None}


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
