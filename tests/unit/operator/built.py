"""The resources whose objects are held as golden YAML, and those objects as they are built now."""

from dataclasses import replace
from typing import Any

from embedding_operator import facts, naming
from embedding_operator.cache.sizing import Size
from embedding_operator.resources import cache, options, resolve
from embedding_operator.resources.deployment import deployment
from embedding_operator.resources.disruption import budget
from embedding_operator.resources.revision import revision
from embedding_operator.resources.service import service
from embedding_operator.sets.revisions import Failure, Version
from tests.unit.operator import samples

CPU = samples.model()
GPU = samples.model(
    "bge-gpu",
    model={"id": "BAAI/bge-small-en-v1.5", "revision": "v1.5", "task": "embed", "file": "onnx/model.onnx"},
    gpu={**samples.GPU, "count": 2, "runtimeClassName": "nvidia"},
    cache={"size": "20Gi", "storageClassName": "fast", "accessMode": "ReadWriteMany"},
    resources={"requests": {"cpu": 2}, "limits": {"memory": "8Gi"}},
    replicas=0,
)
SERVER = samples.model(
    "tuned",
    server={
        "workers": 2, "maxEmbeddingBatchSize": 128, "maxRerankingBatchSize": 32, "maxBatchTokens": 16384,
        "maxQueueTokens": 100000, "maxQueueWaitMilliseconds": 5000,
        "numThreads": 4, "logLevel": "debug", "logFormat": "text",
        "otlpEndpoint": "http://collector:4317", "drainDelaySeconds": 10, "shutdownTimeoutSeconds": 90,
        "apiKeySecretRef": {"name": "keys", "key": "clients"},
    },
    env=[
        {"name": "REQUEST_TIMEOUT_SECS", "value": "60"},
        {"name": "OTEL_RESOURCE_ATTRIBUTES", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ],
)  # fmt: skip
ZONES = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]} for zone in ("x", "y")]
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
CLAIMING = samples.model(
    "claiming",
    gpu={
        "resourceName": "gpu.example.com/any",
        "runtimeClassName": "nvidia",
        "resourceClaims": [
            {"name": "own", "resourceClaimTemplateName": "one-gpu", "request": "gpu"},
            {"name": "shared", "resourceClaimName": "network"},
        ],
    },
)
PLACED = samples.model(
    "placed",
    scheduling={
        "nodeSelector": {"pool": "inference"},
        "tolerations": [
            {"key": "dedicated", "operator": "Equal", "value": "inference", "effect": "NoSchedule"}
        ],
        "affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": ZONES}}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "priorityClassName": "high",
    },
    imagePullSecrets=[{"name": "registry"}],
    service={"type": "LoadBalancer", "port": 8080, "annotations": {"example.com/internal": "true"}},
    gpu=samples.GPU,
)
SHAPED = samples.model(
    "shaped",
    model={
        "precision": "int8", "maxLength": 128, "pooling": "cls", "normalize": False,
        "prompts": {"query": "query: ", "passage": "passage: "},
    },
    servedNames=["text-embedding-3-small", "shaped"],
)  # fmt: skip
SHAPED_FACTS = samples.facts(SHAPED)
RERANKER = samples.model(
    "reranker", model={"id": "cross-encoder/ms-marco-MiniLM-L6-v2"}, image="mine:1", replicas=1
)

HUB_MODEL = {
    "source": {
        "hub": {
            "endpoint": "https://hub.internal",
            "tokenSecretRef": {"name": "hub-token", "key": "token"},
            "caBundleRef": {"name": "company-ca", "key": "bundle.pem"},
            "proxy": {"url": "http://proxy.internal:3128", "noProxy": [".cluster.local", "10.0.0.1"]},
        }
    }
}
HUB = samples.model("private", model=HUB_MODEL)

FOLDER = samples.model(
    "folder", model={"source": {"pvc": {"claimName": "models", "path": "minilm"}}, "maxLength": 64}
)
ARCHIVE = samples.model(
    "archive",
    model={
        "source": {
            "url": {
                "url": "https://files.example/minilm.tar.gz",
                "sha256": "5f" * 32,
                "path": "minilm",
                "tokenSecretRef": {"name": "files", "key": "token"},
                "caBundleRef": {"name": "house-ca", "key": "ca.crt"},
                "proxy": {"url": "http://proxy.example:3128", "noProxy": [".svc"]},
            }
        }
    },
)
ARCHIVE_FACTS = samples.facts(ARCHIVE, commit="local", folder=f"/models/archives/{'5f' * 32}/minilm")
FOLDER_FACTS = samples.facts(FOLDER, commit="local", folder="/models/minilm", foreign=True)

PER_REPLICA = samples.model(
    "own",
    model=HUB_MODEL,
    cache={"mode": "PerReplica", "size": "2Gi"},
    gpu=samples.GPU,
    server={"logLevel": "debug"},
    resources={"requests": {"cpu": "2"}, "limits": {"memory": "8Gi"}},
)
PER_REPLICA_CLASS = samples.model(
    "own", cache={"mode": "PerReplica", "size": "2Gi", "storageClassName": "fast"}
)
PINNED = samples.model("followed", model={"revisionPolicy": "Follow"}, cache={"retention": "Retain"})
FOLLOWING = replace(PINNED, source=replace(PINNED.source, commit=samples.COMMIT))
MERGED = samples.model(
    "merged",
    podTemplate={
        "metadata": {"labels": {"team": "search"}, "annotations": {"example.com/scrape": "true"}},
        "spec": {
            "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
            "securityContext": {"supplementalGroups": [4000]},
            "initContainers": [{"name": "wait", "image": "wait:1"}],
            "containers": [
                {
                    "name": "server",
                    "startupProbe": {"failureThreshold": 600},
                    "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                    "volumeMounts": [{"name": "extra", "mountPath": "/extra", "readOnly": True}],
                },
                {
                    "name": "proxy",
                    "image": "proxy:1",
                    "ports": [{"containerPort": 9000}, {"containerPort": 9000, "protocol": "UDP"}],
                },
            ],
            "volumes": [{"name": "extra", "secret": {"secretName": "extra"}}],
        },
    },
)

IMAGE = {"source": {"oci": {"image": "models.example/minilm:v1", "pullPolicy": "Always"}}}
MOUNTED = samples.model("mounted", image_volumes=True, model=IMAGE, imagePullSecrets=[{"name": "registry"}])
COPIED = samples.model("copied", model=IMAGE, imagePullSecrets=[{"name": "registry"}])

TEMPLATE = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {"containers": [{"name": "server", "image": "mine:1"}]},
}

FIVE = Size("5Gi", "spec.cache.size")
DENIED = facts.Failure("AccessDenied", "401", permanent=True)

OBJECTS: dict[str, Any] = {
    "claim": cache.claim(CPU, FIVE),
    "claim-class": cache.claim(GPU, Size("20Gi", "spec.cache.size")),
    "claim-retained": cache.claim(samples.model("kept", cache={"retention": "Retain"}), FIVE),
    "claim-measured": cache.claim(
        samples.model("kept", cache={"size": None, "retention": "Retain"}),
        Size(
            "3Gi",
            "the files' 1000.0 MB times 2.5, for the graph that is made of them, in whole Gi",
            measured=True,
        ),
    ),
    "job": cache.job(CPU, samples.RUNTIME),
    "job-resolve": resolve.job(HUB, samples.RUNTIME, naming.sizing_job(HUB), "main"),
    "job-resolve-placed": resolve.job(
        PLACED, samples.RUNTIME, naming.sizing_job(PLACED), "main", attempt=2, before=DENIED
    ),
    "job-check": resolve.job(
        FOLLOWING, samples.RUNTIME, naming.check_jobs(FOLLOWING)[1], "main", commit="d" * 40
    ),
    "job-followed": cache.job(FOLLOWING, samples.RUNTIME),
    "claim-followed": cache.claim(FOLLOWING, FIVE),
    "job-resolve-shaped": resolve.job(SHAPED, samples.RUNTIME, naming.sizing_job(SHAPED), "main"),
    "job-gpu": cache.job(GPU, samples.RUNTIME, attempt=3, hosts=["b", "a"]),
    "job-hub": cache.job(HUB, samples.RUNTIME),
    "deployment": deployment(CPU, samples.facts(CPU), samples.RUNTIME),
    "deployment-sized": deployment(CPU, samples.facts(CPU, **samples.SHAPE), samples.RUNTIME),
    "deployment-gpu": deployment(GPU, samples.facts(GPU), samples.RUNTIME),
    "deployment-reranker": deployment(
        RERANKER, samples.facts(RERANKER, task="rerank", dimensions=None), samples.RUNTIME
    ),
    "deployment-server": deployment(SERVER, samples.facts(SERVER), samples.RUNTIME),
    "deployment-claiming": deployment(CLAIMING, samples.facts(CLAIMING), samples.RUNTIME),
    "deployment-placed": deployment(PLACED, samples.facts(PLACED), samples.RUNTIME),
    "job-placed": cache.job(PLACED, samples.RUNTIME, hosts=["a"]),
    "service-placed": service(PLACED, samples.FINGERPRINT),
    "options": options.serving(CPU, samples.facts(CPU)),
    "options-shaped": options.serving(SHAPED, SHAPED_FACTS),
    "options-job": options.fetching(SHAPED),
    "job-shaped": cache.job(SHAPED, samples.RUNTIME),
    "deployment-shaped": deployment(SHAPED, SHAPED_FACTS, samples.RUNTIME),
    "job-archive": cache.job(ARCHIVE, samples.RUNTIME, commit="local"),
    "deployment-archive": deployment(ARCHIVE, ARCHIVE_FACTS, samples.RUNTIME),
    "job-folder": cache.job(FOLDER, samples.RUNTIME, commit="local"),
    "options-folder": options.serving(FOLDER, FOLDER_FACTS),
    "deployment-folder": deployment(FOLDER, FOLDER_FACTS, samples.RUNTIME),
    "job-per-replica": cache.job(PER_REPLICA, samples.RUNTIME),
    "deployment-per-replica": deployment(PER_REPLICA, samples.facts(PER_REPLICA), samples.RUNTIME),
    "deployment-per-replica-class": deployment(
        PER_REPLICA_CLASS, samples.facts(PER_REPLICA_CLASS), samples.RUNTIME
    ),
    "deployment-merged": deployment(MERGED, samples.facts(MERGED), samples.RUNTIME),
    "job-image": cache.job(MOUNTED, samples.RUNTIME),
    "job-image-copied": cache.job(COPIED, samples.RUNTIME),
    "deployment-image": deployment(
        MOUNTED,
        samples.facts(MOUNTED, commit="local", folder="/models/models", image="models.example/minilm:v1"),
        samples.RUNTIME,
    ),
    "deployment-image-copied": deployment(
        COPIED, samples.facts(COPIED, commit="local", folder="/models/images/abab"), samples.RUNTIME
    ),
    "service": service(CPU, samples.FINGERPRINT),
    "budget": budget(CPU, samples.FINGERPRINT),
    "revision": revision(CPU, "minilm-abababab", Version("0123abcd", 2, TEMPLATE)),
    "revision-options": revision(
        CPU, "minilm-abababab", Version("0123abcd", 2, TEMPLATE), '{"models": []}\n'
    ),
    "revision-failed": revision(
        CPU, "minilm-abababab", Version("0123abcd", 2, TEMPLATE, Failure("OOMKilled", "too small", "once"))
    ),
}
