"""The dialect of text-embeddings-inference over a fake engine."""

import base64
from typing import Any

import numpy as np
import pytest
from jsonschema_rs import validator_for

from embedding_runtime.errors import (
    AuthenticationError,
    EngineUnavailableError,
    InputTooLongError,
    NotReadyError,
    OverloadedError,
    RuntimeFault,
)
from embedding_runtime.service.answers import Health
from embedding_runtime.service.queries import EmbedQuery, RerankQuery
from tests.unit.runtime.asking import READY, RERANKER, FakeInference, ask

ROWS = [[0.0, 0.125, 0.25, 0.375], [0.5, 0.625, 0.75, 0.875]]
PAIRS = [["q", "a"], ["r", "b"], ["q", "c"]]


def _asked(path: str, body: dict[str, Any]) -> EmbedQuery | RerankQuery | None:
    inference = FakeInference()
    answer = ask("POST", path, inference, json=body)
    assert answer.status_code == 200, answer.text
    return inference.asked


@pytest.mark.parametrize("path", ["/embed", "/"])
def test_inputs_become_a_bare_array(path: str) -> None:
    assert ask("POST", path, json={"inputs": ["a", "b"]}).json() == ROWS
    assert ask("POST", path, json={"inputs": "a"}).json() == ROWS[:1]


def test_the_documented_form_of_the_same_path_stays_as_it_is() -> None:
    texts = ['"inputs": ["x"]', "inputs", '\\"inputs\\":']
    inference = FakeInference()
    answer = ask("POST", "/embed", inference, json={"input": texts})
    assert list(answer.json()) == ["embeddings", "model", "usage"]
    assert inference.asked == EmbedQuery(texts, outputs=())
    ranked = ask("POST", "/rerank", json={"query": '"texts":', "documents": ["texts"]}).json()
    assert list(ranked) == ["results", "model", "usage"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, {}),
        ({"normalize": False}, {"normalize": False}),
        ({"truncate": True}, {}),
        ({"truncate": False}, {"truncate": "never"}),
        ({"truncate": True, "truncation_direction": "Left"}, {"truncate": "left"}),
        ({"truncation_direction": "right"}, {"truncate": "right"}),
        ({"prompt_name": "query"}, {"prompt_name": "query"}),
        ({"dimensions": 2}, {"dimensions": 2}),
        ({"model": "m"}, {"model": "m"}),
    ],
)
def test_what_is_asked_for_reaches_the_model(given: dict[str, Any], meant: dict[str, Any]) -> None:
    assert _asked("/embed", {"inputs": "a", **given}) == EmbedQuery(["a"], **{"normalize": True, **meant})


def test_base64_is_little_endian_float32() -> None:
    (found,) = ask("POST", "/embed", json={"inputs": "a", "encoding_format": "base64"}).json()
    assert np.frombuffer(base64.b64decode(found), "<f4").tolist() == ROWS[0]


@pytest.mark.parametrize("path", ["/rerank", "/"])
def test_texts_are_ranked(path: str) -> None:
    body = {"query": "q", "texts": ["a", "b"]}
    assert ask("POST", path, json=body).json() == [
        {"index": 1, "score": 0.5},
        {"index": 0, "score": 1 / 3},
    ]
    raw = ask("POST", path, json={**body, "raw_scores": True, "return_text": True}).json()
    assert raw == [{"index": 1, "score": 0.0, "text": "b"}, {"index": 0, "score": -1.0, "text": "a"}]


def test_how_texts_are_cut_reaches_the_reranker() -> None:
    body = {"query": "q", "texts": ["a"], "truncate": True, "truncation_direction": "Left"}
    assert _asked("/rerank", body) == RerankQuery("q", ["a"], truncate="left")


@pytest.mark.parametrize("path", ["/predict", "/"])
def test_pairs_are_scored_in_their_order(path: str) -> None:
    # The fake engine gives the last document of a query 1/2, the one before 1/3.
    scores = [[{"score": score, "label": "LABEL_0"}] for score in (1 / 3, 0.5, 0.5)]
    assert ask("POST", path, json={"inputs": PAIRS}).json() == scores


def test_one_pair_is_answered_without_a_list_around() -> None:
    answer = ask("POST", "/predict", json={"inputs": ["q", "a"], "raw_scores": True})
    assert answer.json() == [{"score": 0.0, "label": "LABEL_0"}]


def test_one_text_is_no_pair() -> None:
    answer = ask("POST", "/predict", json={"inputs": "a"})
    assert answer.status_code == 400
    assert "send [query, text]" in answer.json()["error"]


def test_what_fails_for_one_pair_fails_for_all() -> None:
    failure = OverloadedError("full", retry_after=2)
    answer = ask("POST", "/predict", FakeInference(failure=failure), json={"inputs": PAIRS})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")


def test_more_pairs_than_inputs_are_allowed_are_refused() -> None:
    answer = ask("POST", "/predict", json={"inputs": PAIRS}, settings={"max_inputs_per_request": 2})
    assert answer.status_code == 413
    assert "inputs has 3 entries" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/similarity", "/"])
def test_sentences_are_compared_with_the_first(path: str) -> None:
    inputs = {"source_sentence": "a", "sentences": ["b", "c"]}
    found = ask("POST", path, json={"inputs": inputs, "parameters": {}}).json()
    rows = (np.arange(12).reshape(-1, 4) / 8).astype(np.float32)
    assert found == pytest.approx((rows[1:] @ rows[0]).tolist())
    asked = _asked(path, {"inputs": inputs, "parameters": {"truncate": False, "prompt_name": "p"}})
    expected = EmbedQuery(["a", "b", "c"], truncate="never", prompt_name="p", normalize=True)
    assert asked == expected


def test_every_token_gets_its_vector() -> None:
    inference = FakeInference()
    body = {"inputs": ["a", "b"], "truncate": False}
    answer = ask("POST", "/embed_all", inference, json=body)
    assert answer.json() == [[row, [-number for number in row]] for row in ROWS]
    assert inference.asked == EmbedQuery(["a", "b"], truncate="never", outputs=("tokens",))


def test_sparse_embeddings_are_the_words_that_matter() -> None:
    each = [{"index": 1, "value": 0.5}, {"index": 7, "value": 0.25}]
    assert ask("POST", "/embed_sparse", json={"inputs": "a"}).json() == [each]
    assert ask("POST", "/embed_sparse", json={"inputs": ["a", "b"]}).json() == [each, each]
    asked = _asked("/embed_sparse", {"inputs": "a", "truncate": False, "prompt_name": "p"})
    assert asked == EmbedQuery(["a"], truncate="never", prompt_name="p", outputs=("sparse",))


def test_texts_are_split_into_tokens() -> None:
    token = {"id": 7, "text": "ab", "special": False, "start": 0, "stop": 2}
    special = {"id": 1, "text": "[CLS]", "special": True, "start": None, "stop": None}
    assert ask("POST", "/tokenize", json={"inputs": "ab"}).json() == [[special, token]]
    body = {"inputs": ["ab", "ab"], "add_special_tokens": False}
    assert ask("POST", "/tokenize", json=body).json() == [[token], [token]]


def test_token_ids_become_text() -> None:
    assert ask("POST", "/decode", json={"ids": [1, 2]}).json() == ["1 2"]
    body = {"ids": [[1], [2, 3]], "skip_special_tokens": False}
    assert ask("POST", "/decode", json=body).json() == ["1 special", "2 3 special"]


def test_info_is_about_the_default_model() -> None:
    told = ask("GET", "/info").json()
    assert (told["model_id"], told["max_input_length"], told["auto_truncate"]) == ("org/embedder", 16, True)
    assert told["model_dtype"] == "float32"
    alone = FakeInference(health=Health("ready", "", "", (RERANKER,)))
    told = ask("GET", "/info", alone).json()
    assert (told["model_id"], told["model_type"]) == ("org/reranker", {"reranker": {}})
    answer = ask("GET", "/info", FakeInference(health=Health("loading", "", "", ())))
    assert (answer.status_code, answer.json()["error_type"]) == (503, "Unhealthy")


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (AuthenticationError("no key"), 401, "Validation"),
        (InputTooLongError("long"), 413, "Validation"),
        (OverloadedError("full", retry_after=1), 429, "Overloaded"),
        (NotReadyError("soon", retry_after=1), 503, "Unhealthy"),
        (EngineUnavailableError("gone", retry_after=1), 503, "Unhealthy"),
    ],
)
@pytest.mark.parametrize("path", ["/embed", "/"])
def test_errors_have_tei_s_body(path: str, error: RuntimeFault, status: int, kind: str) -> None:
    answer = ask("POST", path, FakeInference(failure=error), json={"inputs": "a"})
    assert (answer.status_code, answer.json()) == (status, {"error": error.message, "error_type": kind})


@pytest.mark.parametrize(
    ("path", "body", "status", "name"),
    [
        ("/embed", {"inputs": []}, 422, "inputs"),
        ("/embed", {"inputs": "a", "input": "b"}, 400, "input"),
        ("/embed", {"inputs": "a", "pooling": "cls"}, 400, "pooling"),
        ("/rerank", {"texts": ["a"]}, 422, "query"),
        ("/rerank", {"query": "q", "texts": ["a"], "top_n": 1}, 400, "top_n"),
        ("/predict", {"inputs": [["a"]]}, 422, "inputs"),
        ("/", {}, 422, "inputs"),
        ("/similarity", {"inputs": {"source_sentence": "a"}}, 422, "inputs.sentences"),
        ("/decode", {"ids": [[1], ["a"]]}, 422, "ids.1.0"),
        ("/decode", {"ids": []}, 422, "ids"),
    ],
)
def test_a_mistake_is_named(path: str, body: dict[str, Any], status: int, name: str) -> None:
    answer = ask("POST", path, json=body)
    assert (answer.status_code, answer.json()["error_type"]) == (status, "Validation")
    assert name in answer.json()["error"]


BODIES = [
    ("/embed", {"inputs": ["a"]}),
    ("/", {"inputs": ["a"], "encoding_format": "base64"}),
    ("/rerank", {"query": "q", "texts": ["a"]}),
    ("/", {"query": "q", "texts": ["a"], "return_text": True}),
    ("/", {"inputs": PAIRS}),
    ("/predict", {"inputs": ["q", "a"]}),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}),
    ("/embed_all", {"inputs": "a"}),
    ("/tokenize", {"inputs": "a"}),
    ("/decode", {"ids": [1]}),
]


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_answers_are_as_documented(path: str, body: dict[str, Any]) -> None:
    document = ask("GET", "/openapi.json").json()
    operation = document["paths"][path]["post"]
    request = operation["requestBody"]["content"]["application/json"]["schema"]
    validator_for({**request, "components": document["components"]}).validate(body)
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    answer = ask("POST", path, FakeInference(health=READY), json=body)
    validator_for({**schema, "components": document["components"]}).validate(answer.json())
