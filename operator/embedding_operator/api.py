"""The EmbeddingModel resource as typed values. Defaults and validation are the CRD's; no decisions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from embedding_operator.source import KeyRef, Source, key_ref, parse_source

GROUP = "inference.semantic-explorer.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "EmbeddingModel"
PLURAL = "embeddingmodels"

Body = Mapping[str, Any]
"""A Kubernetes object as plain mappings, the way it travels as JSON."""


class Key(NamedTuple):
    """Which resource: what the work queue holds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class DeviceClaim:
    """What a pod calls a ResourceClaim: one that exists (claim), or one of its own from a template.

    request is the one request of it that is used, None for all.
    """

    name: str
    claim: str | None
    template: str | None
    request: str | None


@dataclass(frozen=True)
class Gpu:
    """spec.gpu: how many devices of which kind each pod gets; count is 0 where claims say what it gets."""

    count: int
    resource_name: str
    runtime_class: str | None
    claims: tuple[DeviceClaim, ...] = ()


@dataclass(frozen=True)
class CacheSpec:
    """spec.cache: where the model's files are kept.

    size is None where the spec does not say, until it has been worked out (sizing.with_size). per_replica: in
    a volume of each pod's own, rather than in a claim that all of them mount. volume_access is how the
    claim's volume can be used: the spec's access mode, or what a claim that exists says of itself
    (volumes.as_it_is).
    """

    size: str | None
    storage_class: str | None
    access_mode: str
    retention: str
    existing: str | None
    volume_access: str
    per_replica: bool


@dataclass(frozen=True)
class Rollout:
    """spec.rollout: times in seconds. surge: Auto, Surge or Replace; interruption: Allow or Wait."""

    progress_deadline: int
    surge: str
    surge_wait: int
    interruption: str


@dataclass(frozen=True)
class Server:
    """spec.server: None where the runtime, or the operator's setting for logs, decides. Delays in seconds.

    `max_queue_wait` in milliseconds.
    """

    workers: int
    max_embedding_batch_size: int | None
    max_reranking_batch_size: int | None
    max_batch_tokens: int | None
    max_queue_tokens: int | None
    max_queue_wait: int | None
    threads: int | None
    log_level: str | None
    log_format: str | None
    otlp_endpoint: str | None
    drain_delay: int
    shutdown_timeout: int
    api_key: KeyRef | None


@dataclass(frozen=True)
class Scheduling:
    """spec.scheduling: where the pods and the Job run. Its parts are as in a Pod."""

    node_selector: Mapping[str, str]
    tolerations: tuple[Body, ...]
    affinity: Body | None
    spread: tuple[Body, ...] | None
    priority_class: str | None


@dataclass(frozen=True)
class ServiceSpec:
    """spec.service: the Service in front of the pods."""

    type: str
    port: int
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class EmbeddingModel:
    """One resource. body is the object that it was read from, for its status and managedFields.

    env are further variables of the serving container, as in a Pod; pull_secrets are names of Secrets.
    pod_template is merged into the serving pods' template, empty where there is none.
    """

    key: Key
    uid: str
    generation: int
    deleting: bool
    source: Source
    served_names: tuple[str, ...]
    replicas: int
    gpu: Gpu | None
    cache: CacheSpec
    rollout: Rollout
    suspended: bool
    server: Server
    env: tuple[Body, ...]
    scheduling: Scheduling
    pull_secrets: tuple[str, ...]
    service: ServiceSpec
    resources: Body | None
    image: str | None
    pod_template: Body
    body: Body

    @property
    def name(self) -> str:
        """metadata.name, which the names of all children derive from."""
        return self.key.name

    @property
    def namespace(self) -> str:
        """metadata.namespace, where all children live."""
        return self.key.namespace

    @property
    def existing_claim(self) -> str | None:
        """The claim that somebody else made and keeps, None where there is none."""
        if self.claimless:
            return None
        return self.source.pvc.claim if self.source.pvc else self.cache.existing

    @property
    def makes_claim(self) -> bool:
        """Whether the operator makes a claim for the model's files."""
        return self.existing_claim is None and not self.claimless

    @property
    def claimless(self) -> bool:
        """Whether pods have the model's files without a claim that they share."""
        return self.cache.per_replica or self.source.is_mounted

    @property
    def provider(self) -> str:
        """What computes: cpu or cuda."""
        return "cuda" if self.gpu else "cpu"

    @property
    def status(self) -> Body:
        """The status as last seen; empty before the first write."""
        status: Body = self.body.get("status") or {}
        return status


def key_of(body: Body) -> Key:
    """Returns the key of an EmbeddingModel object."""
    return Key(body["metadata"]["namespace"], body["metadata"]["name"])


def parse(body: Body, *, image_volumes: bool = False) -> EmbeddingModel:
    """Returns the typed view of an object that the API server has validated and defaulted.

    image_volumes: pods of this cluster can mount images.
    The defaults are repeated here for the fields that the schema defaults, since an object stored before
    a default existed is read without it.
    """
    metadata, spec = body["metadata"], body["spec"]
    return EmbeddingModel(
        key=key_of(body),
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        deleting="deletionTimestamp" in metadata,
        source=parse_source(spec["model"], image_volumes=image_volumes),
        served_names=tuple(spec.get("servedNames") or ()),
        replicas=spec.get("replicas", 1),
        gpu=_gpu(spec.get("gpu")),
        cache=_cache(spec.get("cache") or {}),
        rollout=_rollout(spec.get("rollout") or {}),
        suspended=spec.get("suspend", False),
        server=_server(spec.get("server") or {}),
        env=tuple(spec.get("env") or ()),
        scheduling=_scheduling(spec.get("scheduling") or {}),
        pull_secrets=tuple(secret["name"] for secret in spec.get("imagePullSecrets") or ()),
        service=_service(spec.get("service") or {}),
        resources=spec.get("resources"),
        image=spec.get("image"),
        pod_template=spec.get("podTemplate") or {},
        body=body,
    )


def _gpu(gpu: Body | None) -> Gpu | None:
    if gpu is None:
        return None
    claims = tuple(
        DeviceClaim(
            claim["name"],
            claim.get("resourceClaimName"),
            claim.get("resourceClaimTemplateName"),
            claim.get("request"),
        )
        for claim in gpu.get("resourceClaims") or ()
    )
    return Gpu(
        0 if claims else gpu.get("count", 1),
        gpu.get("resourceName", "nvidia.com/gpu"),
        gpu.get("runtimeClassName"),
        claims,
    )


def _cache(cache: Body) -> CacheSpec:
    return CacheSpec(
        size=cache.get("size"),
        storage_class=cache.get("storageClassName"),
        access_mode=cache.get("accessMode", "ReadWriteOnce"),
        retention=cache.get("retention", "Delete"),
        existing=cache.get("claimName"),
        volume_access=cache.get("accessMode", "ReadWriteOnce"),
        per_replica=cache.get("mode") == "PerReplica",
    )


def _server(server: Body) -> Server:
    return Server(
        workers=server.get("workers", 1),
        max_embedding_batch_size=server.get("maxEmbeddingBatchSize"),
        max_reranking_batch_size=server.get("maxRerankingBatchSize"),
        max_batch_tokens=server.get("maxBatchTokens"),
        max_queue_tokens=server.get("maxQueueTokens"),
        max_queue_wait=server.get("maxQueueWaitMilliseconds"),
        threads=server.get("numThreads"),
        log_level=server.get("logLevel"),
        log_format=server.get("logFormat"),
        otlp_endpoint=server.get("otlpEndpoint"),
        drain_delay=server.get("drainDelaySeconds", 5),
        shutdown_timeout=server.get("shutdownTimeoutSeconds", 30),
        api_key=key_ref(server.get("apiKeySecretRef")),
    )


def _rollout(rollout: Body) -> Rollout:
    return Rollout(
        progress_deadline=rollout.get("progressDeadlineSeconds", 600),
        surge=rollout.get("surge", "Auto"),
        surge_wait=rollout.get("surgeWaitSeconds", 60),
        interruption=rollout.get("interruption", "Wait"),
    )


def _scheduling(scheduling: Body) -> Scheduling:
    spread = scheduling.get("topologySpreadConstraints")
    return Scheduling(
        node_selector=scheduling.get("nodeSelector") or {},
        tolerations=tuple(scheduling.get("tolerations") or ()),
        affinity=scheduling.get("affinity") or None,
        spread=None if spread is None else tuple(spread),
        priority_class=scheduling.get("priorityClassName"),
    )


def _service(service: Body) -> ServiceSpec:
    return ServiceSpec(
        service.get("type", "ClusterIP"), service.get("port", 80), service.get("annotations") or {}
    )
