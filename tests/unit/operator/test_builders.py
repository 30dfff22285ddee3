"""The builders against golden YAML: what is sent to the API server, to be read by people.

After an intended change: UPDATE_GOLDEN=1 pytest tests/unit/operator/test_builders.py, then read the diff.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator import naming
from embedding_operator.api import EmbeddingModel
from embedding_operator.cache import prefetch
from embedding_operator.resources import cache, options
from embedding_operator.resources.deployment import deployment
from embedding_runtime.settings.models_file import read_models_file
from tests.unit.operator import samples
from tests.unit.operator.built import CPU, OBJECTS, PLACED, REQUIRED, SHAPED, SHAPED_FACTS

GOLDEN = Path(__file__).parent / "golden"


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
    env = {item["name"]: item.get("value") for item in container["env"]}
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
