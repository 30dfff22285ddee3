"""What pods ask for where the spec does not say, by model and spec."""

import json
from pathlib import Path
from typing import Any

import pytest

from embedding_operator.fields import parse_quantity
from embedding_operator.sets import footprint
from tests.unit.operator import samples
from tests.unit.operator.world import World

MIB = 2**20
MEASURED = json.loads((Path(__file__).parents[3] / "bench/results/footprint.json").read_text())

MINILM: dict[str, Any] = {**samples.SHAPE, "bytes": 90_900_000, "max_tokens": 256, "precision": "fp32"}
BASE: dict[str, Any] = {"layers": 12, "hidden": 768, "heads": 12, "bytes": 436 * 10**6, "max_tokens": 512}
LARGE: dict[str, Any] = {"layers": 24, "hidden": 1024, "heads": 16, "bytes": 134 * 10**7, "max_tokens": 512}
LONG: dict[str, Any] = {"layers": 24, "hidden": 1024, "heads": 16, "bytes": 227 * 10**7, "max_tokens": 8192}
UNKNOWN: dict[str, Any] = {"layers": None, "hidden": None, "heads": None}


def asked(model: dict[str, Any], **spec: Any) -> tuple[object, object]:
    em = samples.model(**spec)
    requests = footprint.needs(em, samples.facts(em, **model)).requests
    return requests.get("cpu"), requests.get("memory")


@pytest.mark.parametrize(
    ("model", "spec", "cpu", "memory"),
    [
        (MINILM, {}, "500m", "448Mi"),
        (BASE, {}, "1", "1Gi"),
        (BASE | {"precision": "fp16", "bytes": 218 * 10**6}, {}, "1", "896Mi"),
        (BASE | {"precision": "int8", "bytes": 109 * 10**6}, {}, "500m", "640Mi"),
        (LARGE, {}, "2", "2432Mi"),
        (LONG, {}, "2", "14592Mi"),
        # a precision that was not measured takes what the worst takes
        (BASE | {"precision": "fp8", "bytes": 218 * 10**6}, {}, "1", "896Mi"),
        # what the server is told to do
        (MINILM, {"server": {"workers": 3}}, "700m", "576Mi"),
        (MINILM, {"server": {"maxBatchTokens": 16384}}, "500m", "1344Mi"),
        (LARGE, {"server": {"numThreads": 1}}, "1", "2432Mi"),
        # a report of an earlier runtime
        (MINILM | UNKNOWN, {}, "500m", "1Gi"),
        (LARGE | UNKNOWN, {"server": {"workers": 4}}, "500m", "1Gi"),
        (MINILM | {"bytes": None}, {}, "500m", "1Gi"),
        # a GPU
        (MINILM, {"gpu": samples.GPU}, "1", "4Gi"),
        (LARGE, {"gpu": samples.GPU}, "1", "5632Mi"),
        (MINILM | {"bytes": None}, {"gpu": samples.GPU, "server": {"workers": 2}}, "1100m", "4Gi"),
    ],
)
def test_requests_follow_from_the_model_and_the_spec(
    model: dict[str, Any], spec: dict[str, Any], cpu: str, memory: str
) -> None:
    assert asked(model, **spec) == (cpu, memory)


@pytest.mark.parametrize(
    ("resources", "cpu", "memory", "reason"),
    [
        ({"requests": {"memory": "3Gi"}}, "500m", "3Gi", "memory as spec.resources says"),
        ({"requests": {"cpu": 4}}, 4, "448Mi", "cpu as spec.resources says"),
        # a limit alone is the request too, and ours must not be above it
        ({"limits": {"memory": "256Mi"}}, "500m", None, "memory as spec.resources says"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, None, None, "cpu and memory as spec.resources says"),
        ({"requests": {"ephemeral-storage": "1Gi"}}, "500m", "448Mi", "cpu 500m: "),
        ({}, "500m", "448Mi", "cpu 500m: "),
    ],
)
def test_what_the_spec_says_wins_key_by_key(
    resources: dict[str, Any], cpu: object, memory: object, reason: str
) -> None:
    assert asked(MINILM, resources=resources) == (cpu, memory)
    em = samples.model(resources=resources)
    found = footprint.needs(em, samples.facts(em, **MINILM))
    assert reason in found.reason
    assert found.limits == resources.get("limits", {})
    assert (resources.get("requests") or {}).items() <= found.requests.items()


def test_the_reason_says_where_the_numbers_come_from() -> None:
    em = samples.model()
    assert footprint.needs(em, samples.facts(em, **MINILM)).reason == (
        "cpu 500m: 500m for a text of 256 tokens within about 2 s (500m to 2); memory 448Mi: 200Mi for the "
        "server with 1 HTTP process, 139Mi for 87Mi of files in fp32, 60Mi for a batch of 1024 tokens"
    )
    long = footprint.needs(em, samples.facts(em, **LONG)).reason
    assert long.endswith("for a batch of 8192 tokens, less with a smaller spec.model.maxLength")
    told = footprint.needs(em, samples.facts(em, **MINILM | UNKNOWN)).reason
    assert "did not tell its shape" in told


@pytest.mark.parametrize("name", sorted(MEASURED))
def test_no_pod_that_was_measured_took_more_than_it_would_ask_for(name: str) -> None:
    found = MEASURED[name]
    em = samples.model(server={"workers": found["workers"]})
    facts = samples.facts(
        em,
        bytes=found["weights_mib"] * MIB,
        precision=next((kind for kind in ("int8", "fp16") if kind in name), "fp32"),
        max_tokens=found["max_tokens"],
        **{size: found[size] for size in ("layers", "hidden", "heads")},
    )
    memory = parse_quantity(footprint.needs(em, facts).requests["memory"])
    assert memory is not None
    assert found["peak_mib"] * MIB <= memory <= 2.1 * found["peak_mib"] * MIB


def test_the_status_shows_what_the_pods_ask_for() -> None:
    world = World(gpu=samples.GPU, resources={"requests": {"cpu": 2}})
    world.cluster.hosts = ["gpu-node"]
    world.serve()
    container = world.cluster.find("Deployment")["spec"]["template"]["spec"]["containers"][0]
    shown = world.em["status"]["resources"]
    assert shown["requests"] == {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"}
    assert shown["limits"] == {"nvidia.com/gpu": "1"}
    assert {name: str(value) for name, value in container["resources"]["requests"].items()} == shown[
        "requests"
    ]
    assert shown["reason"].endswith("cpu as spec.resources says")


def test_a_shape_that_the_job_tells_sizes_the_pods_once_and_for_all() -> None:
    world = World()
    world.serve(shape=samples.SHAPE)
    container = world.cluster.find("Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"] == {"requests": {"cpu": "500m", "memory": "448Mi"}}
    world.restart_operator()
    world.settle()
    assert world.ready() == ("True", "Ready")


def test_pods_of_an_earlier_report_are_sized_once_when_a_new_one_comes() -> None:
    world = World()
    world.serve()
    world.settle()
    job = world.job()
    world.cluster.remove("Pod", f"{job['metadata']['name']}-0")
    world.cluster.remove("Job", job["metadata"]["name"])
    world.settle()
    assert world.em["status"]["resources"]["requests"]["memory"] == "1Gi"
    world.end_job(samples.ok(shape=samples.SHAPE), well=True)
    world.settle()
    world.roll()
    world.settle()
    assert world.ready() == ("True", "Ready")
    assert world.em["status"]["resources"]["requests"]["memory"] == "448Mi"
    world.restart_operator()
    world.settle()
    assert len(world.names("Deployment")) == 1


@pytest.mark.parametrize("shape", [None, 7, {}, {"layers": 6}, samples.SHAPE | {"heads": "12"}])
def test_a_shape_that_is_not_told_in_full_is_the_default(shape: Any) -> None:
    world = World()
    world.serve(shape=shape)
    assert world.em["status"]["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}
