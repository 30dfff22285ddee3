"""Cohere's dialect over a fake engine."""

import base64
from typing import Any

import numpy as np
import pytest
from jsonschema_rs import validator_for

from embedding_runtime.errors import AuthenticationError, OverloadedError, RequestTooLargeError, RuntimeFault
from embedding_runtime.service.queries import EmbedQuery, RerankQuery
from tests.unit.runtime.asking import FakeInference, ask

EMBED = ("/v1/embed", "/v2/embed")
RERANK = ("/v1/rerank", "/v2/rerank")
DOCUMENTS = ["red", {"text": "green", "id": 7}]
ROW = [0.0, 0.125, 0.25, 0.375]


def _asked(path: str, body: dict[str, Any]) -> EmbedQuery | RerankQuery | None:
    inference = FakeInference()
    answer = ask("POST", path, inference, json=body)
    assert answer.status_code == 200, answer.text
    return inference.asked


def test_v1_answers_plain_vectors() -> None:
    answer = ask("POST", "/v1/embed", json={"texts": ["a"]}, headers={"X-Request-Id": "7"})
    assert answer.json() == {
        "response_type": "embeddings_floats",
        "id": "7",
        "embeddings": [ROW],
        "texts": ["a"],
        "meta": {"api_version": {"version": "1"}, "billed_units": {"input_tokens": 3}},
    }


def test_v2_answers_vectors_by_type() -> None:
    answer = ask("POST", "/v2/embed", json={"texts": ["a"]}).json()
    assert answer["response_type"] == "embeddings_by_type"
    assert answer["embeddings"] == {"float": [ROW]}
    assert answer["meta"]["api_version"] == {"version": "2"}


@pytest.mark.parametrize("path", EMBED)
def test_every_type_comes_at_once(path: str) -> None:
    kinds = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    answer = ask("POST", path, json={"texts": ["a", "b"], "embedding_types": kinds})
    found = answer.json()["embeddings"]
    assert list(found) == kinds
    assert found["int8"][0] == [0, 16, 32, 48]
    assert found["uint8"][0] == [128, 144, 160, 176]
    assert found["ubinary"] == [[0b01110000], [0b11110000]]
    assert found["binary"] == [[0b01110000 - 128], [0b11110000 - 128]]
    assert np.frombuffer(base64.b64decode(found["base64"][0]), "<f4").tolist() == ROW


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, {"truncate": "right"}),
        ({"truncate": "NONE"}, {"truncate": "never"}),
        ({"truncate": "START"}, {"truncate": "left"}),
        ({"input_type": "search_query"}, {"input_type": "query"}),
        ({"input_type": "search_document"}, {"input_type": "document"}),
        ({"input_type": "clustering"}, {"input_type": "clustering"}),
        ({"priority": 3, "model": "m"}, {"model": "m"}),
        ({"output_dimension": 2}, {"dimensions": 2}),
    ],
)
def test_what_is_asked_for_reaches_the_model(given: dict[str, Any], meant: dict[str, Any]) -> None:
    expected = EmbedQuery(["a"], **{"truncate": "right", "normalize": True, **meant})
    assert _asked("/v2/embed", {"texts": ["a"], **given}) == expected


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("/v1/embed", {"texts": ["a"], "images": ["data:"]}),
        ("/v2/embed", {"texts": ["a"], "max_tokens": 5}),
        ("/v2/embed", {"texts": ["a"], "inputs": []}),
        ("/v1/embed", {"texts": ["a"], "output_dimension": 2}),
        ("/v1/rerank", {"query": "q", "documents": ["a"], "max_chunks_per_doc": 1}),
        ("/v2/rerank", {"query": "q", "documents": ["a"], "max_tokens_per_doc": 9}),
    ],
)
def test_a_field_that_is_not_served_is_named(path: str, given: dict[str, Any]) -> None:
    answer = ask("POST", path, json=given)
    assert answer.status_code == 400
    assert list(given)[-1] in answer.json()["message"]


@pytest.mark.parametrize(("path", "documents"), [(RERANK[0], True), (RERANK[1], False)])
def test_documents_are_ranked(path: str, documents: bool) -> None:
    answer = ask("POST", path, json={"query": "q", "documents": DOCUMENTS, "top_n": 2}).json()
    assert [(each["index"], each["relevance_score"]) for each in answer["results"]] == [(1, 0.5), (0, 1 / 3)]
    told = [each.get("document") for each in answer["results"]]
    assert told == ([{"text": "green", "id": 7}, {"text": "red"}] if documents else [None, None])


def test_the_answer_of_v1_is_one_that_jina_s_clients_read_too() -> None:
    answer = ask("POST", "/v1/rerank", json={"query": "q", "documents": DOCUMENTS}).json()
    assert answer["model"] == "org/reranker"
    assert answer["usage"] == {"total_tokens": 9}


@pytest.mark.parametrize(("path", "given", "there"), [(RERANK[0], False, False), (RERANK[1], True, True)])
def test_whether_documents_come_back_can_be_said(path: str, given: bool, there: bool) -> None:
    body = {"query": "q", "documents": DOCUMENTS, "return_documents": given}
    assert [("document" in each) for each in ask("POST", path, json=body).json()["results"]] == [there, there]


def test_the_text_of_an_object_is_ranked() -> None:
    assert _asked("/v2/rerank", {"query": "q", "documents": DOCUMENTS}) == RerankQuery("q", ["red", "green"])


def test_fields_to_rank_become_lines() -> None:
    documents = [{"title": "T", "body": "B", "text": "no"}]
    body = {"query": "q", "documents": documents, "rank_fields": ["title", "body"]}
    assert _asked("/v1/rerank", body) == RerankQuery("q", ["title: T\nbody: B"])
    assert _asked("/v1/rerank", {**body, "rank_fields": ["body"]}) == RerankQuery("q", ["B"])


@pytest.mark.parametrize("document", [{}, {"text": 7}, {"title": "T"}])
def test_an_object_without_text_is_a_mistake(document: dict[str, Any]) -> None:
    answer = ask("POST", "/v2/rerank", json={"query": "q", "documents": ["a", document]})
    assert answer.status_code == 400
    assert "documents.1.text" in answer.json()["message"]


def test_an_object_comes_back_with_whatever_it_holds() -> None:
    document = {"text": "a", "number": 1 << 80}
    body = {"query": "q", "documents": [document]}
    assert ask("POST", "/v1/rerank", json=body).json()["results"][0]["document"] == document


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (AuthenticationError("no key"), 401),
        (RequestTooLargeError("large"), 413),
        (OverloadedError("full", retry_after=2), 429),
    ],
)
@pytest.mark.parametrize("path", EMBED)
def test_errors_have_cohere_s_body(path: str, error: RuntimeFault, status: int) -> None:
    answer = ask("POST", path, FakeInference(failure=error), json={"texts": ["a"]})
    assert (answer.status_code, answer.json()) == (status, {"message": error.message})


def test_errors_of_what_is_before_the_endpoint_have_it_too() -> None:
    assert ask("GET", "/v2/embed").json() == {"message": "Method Not Allowed"}
    assert ask("POST", "/v2/none").json() == {"message": "Not Found"}
    assert ask("POST", "/v1/embed", content=b"x" * 3000).json()["message"].startswith("the body is larger")
    told = ask("POST", "/v1/rerank", content=b"{", headers={"Content-Type": "application/json"}).json()
    assert told["message"] == told["detail"]
    assert told["message"].startswith("the body is not JSON")


BODIES = [
    ("/v1/embed", {"texts": ["a"]}),
    ("/v1/embed", {"texts": ["a"], "embedding_types": ["int8", "base64"]}),
    ("/v2/embed", {"texts": ["a"]}),
    ("/v1/rerank", {"query": "q", "documents": DOCUMENTS}),
    ("/v2/rerank", {"query": "q", "documents": DOCUMENTS}),
]


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_answers_are_as_documented(path: str, body: dict[str, Any]) -> None:
    document = ask("GET", "/openapi.json").json()
    schema = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    resolved = {**schema, "components": document["components"]}
    validator_for(resolved).validate(ask("POST", path, json=body).json())
