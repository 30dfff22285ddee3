"""The CRD and the manifests: they load, the samples fit the schema, and the operator may do little."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator import api
from embedding_operator.observed import CHILD_KINDS
from embedding_operator.resources.deployment import deployment
from embedding_operator.settings import Settings
from tests.unit.operator import samples

ROOT = Path(__file__).parents[3]
CRD = yaml.safe_load((ROOT / "crds/embeddingmodels.yaml").read_text())
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SAMPLES = sorted((ROOT / "manifests/samples").glob("*.yaml"))


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / path).read_text()))


def properties(schema: dict[str, Any], at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, below in schema.get("properties", {}).items():
        yield f"{at}.{name}", below
        yield from properties(below, f"{at}.{name}")
    if "items" in schema:
        yield from properties(schema["items"], f"{at}[]")


def problems(schema: dict[str, Any], value: Any, at: str = "") -> list[str]:
    """What is wrong with a value, by the part of OpenAPI v3 that the CRD uses."""
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    if schema.get("x-kubernetes-int-or-string"):
        return (
            [] if isinstance(value, int) or re.search(schema["pattern"], str(value)) else [f"{at}: pattern"]
        )
    if not isinstance(value, kinds[schema["type"]]):
        return [f"{at}: not a {schema['type']}"]
    found = []
    if isinstance(value, dict) and at != ".metadata":
        known = schema.get("properties", {})
        found += [f"{at}.{name}: missing" for name in schema.get("required", ()) if name not in value]
        for name, item in value.items():
            below = known.get(name) or schema.get("additionalProperties")
            if below is not None:
                found += problems(below, item, f"{at}.{name}")
            elif not schema.get("x-kubernetes-preserve-unknown-fields"):
                found.append(f"{at}.{name}: unknown")
    if isinstance(value, list):
        found += [f"{at}: many"] if len(value) > schema["maxItems"] else []
        found += [
            text for i, item in enumerate(value) for text in problems(schema["items"], item, f"{at}[{i}]")
        ]
    if isinstance(value, str):
        found += [f"{at}: enum"] if value not in schema.get("enum", (value,)) else []
        found += [f"{at}: pattern"] if not re.search(schema.get("pattern", ""), value) else []
        found += [f"{at}: long"] if len(value) > schema.get("maxLength", 10**9) else []
    if isinstance(value, int):
        found += [f"{at}: small"] if value < schema.get("minimum", value) else []
        found += [f"{at}: large"] if value > schema.get("maximum", value) else []
    return found


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_the_samples_fit_the_schema(path: Path) -> None:
    body = yaml.safe_load(path.read_text())
    assert (body["apiVersion"], body["kind"]) == (api.API_VERSION, api.KIND)
    assert problems(SCHEMA, body) == []


def test_the_full_sample_has_every_field_but_those_that_exclude_each_other() -> None:
    (body,) = documents("manifests/samples/full.yaml")
    spec = SCHEMA["properties"]["spec"]["properties"]
    assert body["spec"].keys() == spec.keys()
    missing = {
        f"{part}.{name}"
        for part in ("model", "cache", "gpu", "server", "scheduling", "service", "rollout")
        for name in spec[part]["properties"].keys() - body["spec"][part].keys()
    }
    assert missing == {"model.file", "gpu.resourceClaims", "cache.claimName"}


def test_the_samples_are_there() -> None:
    assert [path.stem for path in SAMPLES] == [
        "archive", "claim", "devices", "embedding", "full", "gpu", "image", "per-replica", "reranker"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({}, ".spec.model: missing"),
        ({"model": {"id": "a/b", "task": "sing"}}, ".spec.model.task: enum"),
        ({"model": {"id": "a/b"}, "replicas": -1}, ".spec.replicas: small"),
        (
            {"model": {"id": "a/b"}, "gpu": {"resourceClaims": [{}]}},
            ".spec.gpu.resourceClaims[0].name: missing",
        ),
        ({"model": {"id": "a/b"}, "gpu": {"count": 0}}, ".spec.gpu.count: small"),
        ({"model": {"id": "a/b"}, "cache": {"size": "much"}}, ".spec.cache.size: pattern"),
        ({"model": {"id": "a/b"}, "typo": 1}, ".spec.typo: unknown"),
        ({"model": {"id": "a/b"}, "server": {"workers": 0}}, ".spec.server.workers: small"),
        ({"model": {"id": "a/b"}, "env": [{"name": "1X"}]}, ".spec.env[0].name: pattern"),
        ({"model": {"id": "a/b"}, "suspend": "yes"}, ".spec.suspend: not a boolean"),
    ],
)
def test_the_schema_refuses(spec: dict[str, Any], problem: str) -> None:
    assert problems(SCHEMA, {"spec": spec}) == [problem]


def test_every_field_is_described() -> None:
    silent = [at for at, schema in properties(SCHEMA) if not schema.get("description") and at != ".metadata"]
    assert silent == []


def test_every_string_list_and_map_is_bounded() -> None:
    bounds = {"string": ("maxLength", "enum", "format"), "array": ("maxItems",)}
    loose = [
        at
        for at, schema in properties(SCHEMA)
        if at not in (".apiVersion", ".kind")
        and schema.get("type") in bounds
        and not any(bound in schema for bound in bounds[schema["type"]])
    ]
    loose += [
        at
        for at, schema in properties(SCHEMA)
        if "additionalProperties" in schema and "maxProperties" not in schema
    ]
    assert loose == []


def test_the_names_in_the_code_are_those_of_the_crd() -> None:
    names = CRD["spec"]["names"]
    assert (CRD["spec"]["group"], names["kind"], names["plural"]) == (api.GROUP, api.KIND, api.PLURAL)
    assert CRD["spec"]["versions"][0]["name"] == api.VERSION
    assert (names["shortNames"], names["categories"]) == (["em"], ["all"])


def test_columns_show_fields_that_exist() -> None:
    known = {at for at, _ in properties(SCHEMA)} | {".metadata.creationTimestamp"}
    columns = CRD["spec"]["versions"][0]["additionalPrinterColumns"]
    assert {column["jsonPath"] for column in columns} <= known
    assert [c["name"] for c in columns if not c.get("priority")] == [
        "Ready", "Model", "Provider", "Replicas", "Reason", "Age"
    ]  # fmt: skip


def test_the_operator_may_not_read_secrets_and_writes_only_what_it_makes() -> None:
    (role,) = (body for body in documents("manifests/base/rbac.yaml") if body["kind"] == "ClusterRole")
    writable = {
        resource
        for rule in role["rules"]
        for resource in rule["resources"]
        if {"create", "patch", "update", "delete"} & set(rule["verbs"])
    }
    everything = {resource for rule in role["rules"] for resource in rule["resources"]}
    assert not everything & {"secrets", "*", "serviceaccounts", "roles", "pods/exec"}
    assert all("*" not in rule["verbs"] for rule in role["rules"])
    assert writable == {
        "embeddingmodels/status", "embeddingmodels/finalizers", "persistentvolumeclaims", "services",
        "deployments", "jobs", "events", "poddisruptionbudgets",
        "controllerrevisions", "configmaps",
    }  # fmt: skip
    watched = {
        resource for rule in role["rules"] for resource in rule["resources"] if "watch" in rule["verbs"]
    }
    assert len(watched) == len(CHILD_KINDS) + 1


def test_the_operators_pod_is_of_the_restricted_security_level() -> None:
    (body,) = documents("manifests/base/deployment.yaml")
    pod = body["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert body["spec"]["strategy"] == {"type": "Recreate"}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_operators_environment_is_its_settings() -> None:
    (body,) = documents("manifests/base/deployment.yaml")
    env = {
        item["name"].lower(): item["value"]
        for item in body["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert env.keys() == Settings.model_fields.keys()
    assert Settings(**env) == Settings.model_construct(**Settings(**{}).model_dump())


def test_no_variable_that_the_operator_sets_is_taken_from_the_spec() -> None:
    em = samples.model(server={"apiKeySecretRef": {"name": "a", "key": "b"}})
    body = deployment(em, samples.facts(em), samples.RUNTIME)
    rules = SCHEMA["properties"]["spec"]["properties"]["env"]["items"]["x-kubernetes-validations"]
    refused = {name for rule in rules for name in re.findall(r"'([A-Z_]+)'", rule["rule"])}
    told = [rule["messageExpression"] for rule in rules if "instead of" in rule.get("messageExpression", "")]
    with_field = set(re.findall(r"'([A-Z_]+)': '", told[0]))
    env = body["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {item["name"] for item in env} <= refused
    assert with_field == set(re.findall(r"'([A-Z_]+)'", rules[1]["rule"]))
    fields = {at.removeprefix(".spec.") for at, _ in properties(SCHEMA)}
    assert set(re.findall(r": '([A-Za-z.]+)'", told[0])) <= fields
