"""The OpenAPI document and the page that shows it."""

import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import validator_for

from tests.unit.runtime.asking import ask

INFERENCE = ("/embed", "/rerank")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = ask("GET", "/openapi.json").json()
    return found


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "components": document["components"]}


def _name(schema: dict[str, Any]) -> str:
    """What the schema refers to; of several the documented one, which is the first."""
    reference: str = schema.get("anyOf", [schema])[0]["$ref"]
    return reference.rpartition("/")[2]


def test_every_endpoint_is_there(document: dict[str, Any]) -> None:
    assert set(document["paths"]) == {
        "/embed",
        "/rerank",
        "/models",
        "/health/live",
        "/health/serving",
        "/health/ready",
        "/metrics",
        "/",
        "/decode",
        "/embed_all",
        "/embed_sparse",
        "/info",
        "/predict",
        "/similarity",
        "/tokenize",
        "/v1/embed",
        "/v1/embeddings",
        "/v1/models",
        "/v1/models/{name}",
        "/v1/rerank",
        "/v2/embed",
        "/v2/rerank",
    }


@pytest.mark.parametrize("path", INFERENCE)
def test_every_status_of_an_inference_endpoint_has_its_schema_and_examples(
    document: dict[str, Any], path: str
) -> None:
    responses = document["paths"][path]["post"]["responses"]
    assert set(responses) == {"200", "400", "401", "404", "413", "415", "422", "429", "503", "504"}
    for status, response in responses.items():
        content = response["content"]["application/json"]
        validator = validator_for(_resolved(document, content["schema"]))
        if status == "200":
            name = _name(content["schema"])
            examples = document["components"]["schemas"][name]["examples"]
        else:
            examples = [example["value"] for example in content["examples"].values()]
        assert examples
        for example in examples:
            validator.validate(example)


@pytest.mark.parametrize("path", INFERENCE)
def test_the_example_of_a_request_is_answered_as_documented(document: dict[str, Any], path: str) -> None:
    operation = document["paths"][path]["post"]
    name = _name(operation["requestBody"]["content"]["application/json"]["schema"])
    for example in document["components"]["schemas"][name]["examples"]:
        answer = ask("POST", path, json=example)
        assert answer.status_code == 200
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        validator_for(_resolved(document, schema)).validate(answer.json())
        assert set(operation["responses"]["200"]["headers"]) <= {header.title() for header in answer.headers}


@pytest.mark.parametrize("path", ["/models", "/models?detail=true", "/health/live", "/health/ready"])
def test_what_the_others_answer_is_as_documented(document: dict[str, Any], path: str) -> None:
    responses = document["paths"][path.partition("?")[0]]["get"]["responses"]
    schema = responses["200"]["content"]["application/json"]["schema"]
    validator_for(_resolved(document, schema)).validate(ask("GET", path).json())


def test_the_page_loads_nothing_from_another_host() -> None:
    page = ask("GET", "/docs").text
    assert not re.search(r"""(?:https?:)?//[a-z]""", page)
    assert '"validatorUrl": null' in page
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert len(loaded) == 3
    for path in loaded:
        answer = ask("GET", path)
        assert answer.status_code == 200
        assert len(answer.content) > 1000
    assert "url: '/openapi.json'" in page


def test_keys_are_in_the_document_where_they_are_needed(document: dict[str, Any], tmp_path: Path) -> None:
    assert "securitySchemes" not in document["components"]
    (tmp_path / "keys").write_text("secret\n")
    headers = {"X-API-Key": "secret"}
    secured = ask(
        "GET", "/openapi.json", settings={"api_key_file": tmp_path / "keys"}, headers=headers
    ).json()
    assert set(secured["components"]["securitySchemes"]) == {"bearer", "header"}
    assert secured["paths"]["/embed"]["post"]["security"]
    assert "security" not in secured["paths"]["/health/ready"]["get"]
