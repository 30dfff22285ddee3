"""The builders against golden YAML: what is sent to the API server, to be read by people.

After an intended change: UPDATE_GOLDEN=1 pytest tests/unit/operator/test_builders.py, then read the diff.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator import facts, naming
from embedding_operator.api import EmbeddingModel
from embedding_operator.cache import prefetch
from embedding_operator.cache.sizing import Size
from embedding_operator.resources import cache, options, resolve
from embedding_operator.resources.deployment import deployment
from embedding_operator.resources.disruption import budget
from embedding_operator.resources.revision import revision
from embedding_operator.resources.service import service
from embedding_operator.sets.revisions import Failure, Version
from embedding_runtime.settings.models_file import read_models_file
from tests.unit.operator import samples

GOLDEN = Path(__file__).parent / "golden"

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


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_are_as_in_their_golden_file(name: str) -> None:
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(yaml.safe_dump(OBJECTS[name], sort_keys=False, width=1000))
    assert OBJECTS[name] == yaml.safe_load(path.read_text())


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == OBJECTS.keys()


def pod_templates() -> list[Any]:
    return [
        pytest.param(body["spec"]["template"]["spec"], id=name)
        for name, body in OBJECTS.items()
        if "template" in body.get("spec", {})
    ]


@pytest.mark.parametrize("pod", pod_templates())
def test_pods_are_of_the_restricted_security_level(pod: dict[str, Any]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & pod.keys()
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
    allowed = {"persistentVolumeClaim", "emptyDir", "ephemeral", "image", "secret", "configMap"}
    assert all(allowed & volume.keys() for volume in pod["volumes"])
    assert all("sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}) for volume in pod["volumes"])


def test_serving_pods_mount_the_cache_read_only_and_go_nowhere() -> None:
    pod = OBJECTS["deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount.get("readOnly") for mount in container["volumeMounts"]}
    env = {item["name"]: item["value"] for item in container["env"]}
    assert mounts["models"] is True
    assert env["HF_HUB_OFFLINE"] == "1"
    assert "HF_ENDPOINT" not in env
    assert env["EXPECTED_FINGERPRINT"] == samples.FINGERPRINT


def test_pods_get_ten_seconds_more_than_the_server_takes_to_shut_down() -> None:
    pods = [OBJECTS[name]["spec"]["template"]["spec"] for name in ("deployment", "deployment-server")]
    assert [pod["terminationGracePeriodSeconds"] for pod in pods] == [40, 100]


def test_the_job_runs_under_the_rules_of_the_pods() -> None:
    em = samples.model(**{k: v for k, v in PLACED.body["spec"].items() if k != "gpu"})
    fields = ("nodeSelector", "tolerations", "affinity", "priorityClassName", "imagePullSecrets")
    pods, job = (
        body["spec"]["template"]["spec"]
        for body in (deployment(em, samples.facts(em), samples.RUNTIME), cache.job(em, samples.RUNTIME))
    )
    assert {field: pods[field] for field in fields} == {field: job[field] for field in fields}


def test_hosts_narrow_every_alternative_of_the_spec() -> None:
    affinity = OBJECTS["job-placed"]["spec"]["template"]["spec"]["affinity"]["nodeAffinity"][REQUIRED]
    assert [
        [(rule["key"], rule["values"]) for rule in term["matchExpressions"]]
        for term in affinity["nodeSelectorTerms"]
    ] == [[("zone", [zone]), ("kubernetes.io/hostname", ["a"])] for zone in ("x", "y")]


def test_other_nodes_mean_another_claim_and_tolerations_do_not() -> None:
    moved = samples.model(scheduling={"nodeSelector": {"pool": "inference"}})
    tolerant = samples.model(scheduling={"tolerations": [{"operator": "Exists"}]})
    assert naming.claim(moved) != naming.claim(CPU) == naming.claim(tolerant)


def test_an_empty_list_leaves_the_spread_to_the_cluster() -> None:
    em = samples.model(scheduling={"topologySpreadConstraints": []})
    body = deployment(em, samples.facts(em), samples.RUNTIME)
    assert "topologySpreadConstraints" not in body["spec"]["template"]["spec"]


def shaping(**model: Any) -> EmbeddingModel:
    return samples.model(model=model)


@pytest.mark.parametrize(
    "changed",
    [
        shaping(precision="fp16"),
        shaping(maxLength=64),
        shaping(pooling="max"),
        shaping(normalize=False),
        shaping(prompts={"query": ""}),
    ],
)
def test_what_shapes_vectors_is_one_download_that_another_job_reads(changed: EmbeddingModel) -> None:
    assert naming.claim(changed) == naming.claim(CPU)
    assert naming.job(changed) != naming.job(CPU)
    body = cache.job(changed, samples.RUNTIME)
    assert prefetch.request(body).options == changed.source.options != ""


def test_defaults_of_the_options_say_nothing() -> None:
    plain = shaping(precision="auto", prompts={})
    assert plain.source.options == ""
    assert options.fetching(plain) is None


def test_served_names_roll_the_same_set_and_do_not_touch_the_job() -> None:
    named = samples.model(servedNames=["other"])
    facts = samples.facts(CPU)
    assert naming.job(named) == naming.job(CPU)
    assert cache.job(named, samples.RUNTIME) == cache.job(CPU, samples.RUNTIME)
    one, other = (deployment(em, facts, samples.RUNTIME) for em in (CPU, named))
    assert one["metadata"]["name"] == other["metadata"]["name"]
    assert one["spec"]["selector"] == other["spec"]["selector"]
    assert one["spec"]["template"] != other["spec"]["template"]


def test_the_set_of_a_former_model_keeps_its_options() -> None:
    changed = samples.model("shaped", model={"id": "other/model"})
    text = options.serving(changed, SHAPED_FACTS)["data"][options.FILE]
    (entry,) = json.loads(text)["models"]
    assert (entry["id"], entry["pooling"]) == (SHAPED.source.id, "cls")


def test_an_object_that_is_named_by_its_content_has_a_name_that_fits() -> None:
    long = samples.model("m" * 40, model={"task": "rerank", "maxLength": 64})
    assert len(naming.job(long)) <= 63


@pytest.mark.parametrize("name", ["options", "options-shaped", "options-job"])
def test_the_runtime_reads_what_the_config_map_holds(name: str, tmp_path: Path) -> None:
    path = tmp_path / options.FILE
    path.write_text(OBJECTS[name]["data"][options.FILE])
    (entry,) = read_models_file(path)
    assert entry.name == CPU.source.id


def test_the_url_tells_a_port_that_is_not_the_usual_one() -> None:
    assert naming.url(CPU) == "http://minilm.default.svc"
    assert naming.url(PLACED) == "http://placed.default.svc:8080"


def test_a_variable_that_the_operator_sets_is_not_set_twice() -> None:
    em = samples.model(env=[{"name": "HF_HUB_OFFLINE", "value": "0"}, {"name": "MINE", "value": "1"}])
    body = deployment(em, samples.facts(em), samples.RUNTIME)
    env = body["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [item for item in env if item["name"] in ("HF_HUB_OFFLINE", "MINE")] == [
        {"name": "HF_HUB_OFFLINE", "value": "1"}, {"name": "MINE", "value": "1"}
    ]  # fmt: skip


def test_a_change_of_the_wanted_count_does_not_touch_the_pods() -> None:
    one, other = (
        deployment(em, samples.facts(CPU), samples.RUNTIME) for em in (CPU, samples.model(replicas=9))
    )
    assert one["spec"]["template"] == other["spec"]["template"]
