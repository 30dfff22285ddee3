"""OpenAI's dialect over a fake engine."""

import base64
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema_rs import validator_for

from embedding_runtime.errors import (
    AuthenticationError,
    InputTooLongError,
    NotReadyError,
    OverloadedError,
    RuntimeFault,
    SettingsError,
    UnknownModelError,
    UntrainedDimensionsError,
)
from embedding_runtime.service.queries import EmbedQuery
from embedding_runtime.settings import vocabulary
from tests.unit.runtime.asking import FakeInference, ask

PATH = "/v1/embeddings"


def _asked(body: dict[str, Any], **settings: Any) -> EmbedQuery:
    inference = FakeInference()
    answer = ask("POST", PATH, inference, json=body, settings=settings)
    assert answer.status_code == 200, answer.text
    assert isinstance(inference.asked, EmbedQuery)
    return inference.asked


def test_texts_become_vectors_in_their_order() -> None:
    answer = ask("POST", PATH, json={"input": ["a", "b"], "model": "alias"})
    assert answer.json() == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.0, 0.125, 0.25, 0.375]},
            {"object": "embedding", "index": 1, "embedding": [0.5, 0.625, 0.75, 0.875]},
        ],
        "model": "org/embedder",
        "usage": {"prompt_tokens": 6, "total_tokens": 6},
    }


def test_an_answer_of_many_vectors_is_one_list() -> None:
    count = 9000  # of 4 numbers each: two parts
    settings = {"max_inputs_per_request": count, "max_request_bytes": 100_000}
    found = ask("POST", PATH, json={"input": ["a"] * count}, settings=settings).json()["data"]
    assert [entry["index"] for entry in found] == list(range(count))
    assert found[-1]["embedding"] == [(4 * count - 4 + n) / 8 for n in range(4)]


def test_base64_is_little_endian_float32() -> None:
    (entry,) = ask("POST", PATH, json={"input": "a", "encoding_format": "base64"}).json()["data"]
    assert np.frombuffer(base64.b64decode(entry["embedding"]), "<f4").tolist() == [0.0, 0.125, 0.25, 0.375]


def test_what_is_asked_for_reaches_the_model() -> None:
    asked = _asked({"input": "a", "model": "m", "dimensions": 2, "allow_untrained_dimensions": True})
    assert asked == EmbedQuery(
        ["a"], "m", normalize=True, dimensions=2, untrained_dimensions=True, token_ids=[]
    )


@pytest.mark.parametrize("field", ["user", "priority"])
def test_fields_without_effect_are_accepted(field: str) -> None:
    assert _asked({"input": "a", field: "x"}) == _asked({"input": "a"})


@pytest.mark.parametrize("given", [[5, 6], [[5, 6], [7]]])
def test_token_ids_are_refused_with_what_to_set(given: Any) -> None:
    answer = ask("POST", PATH, json={"input": given})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("UnsupportedField", "input")
    for words in ("check_embedding_ctx_length=False", "OPENAI_TOKEN_IDS", "cl100k_base"):
        assert words in error["message"]


def test_token_ids_are_the_models_own_where_the_setting_says_so() -> None:
    assert _asked({"input": [5, 6]}, openai_token_ids="model").token_ids == [[5, 6]]
    assert _asked({"input": [[5, 6], [7]]}, openai_token_ids="model").token_ids == [[5, 6], [7]]


@pytest.fixture
def vocabulary_file(tmp_path: Path) -> str:
    tokens = [b"hello", b" world", "é".encode()[:1], "é".encode()[1:]]
    lines = [base64.b64encode(token) + f" {rank}\n".encode() for rank, token in enumerate(tokens)]
    path = tmp_path / "made.tiktoken.gz"
    path.write_bytes(gzip.compress(b"".join(lines)))
    return str(path)


def test_token_ids_of_an_encoding_become_text(vocabulary_file: str) -> None:
    asked = _asked({"input": [[0, 1], [2, 3], [0, 2]]}, openai_token_ids=vocabulary_file)
    assert (asked.texts, asked.token_ids) == (["hello world", "é", "hello\N{REPLACEMENT CHARACTER}"], [])


def test_a_token_id_that_the_encoding_lacks_is_named(vocabulary_file: str) -> None:
    answer = ask("POST", PATH, json={"input": [[0], [9]]}, settings={"openai_token_ids": vocabulary_file})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input.1"
    assert "token id 9" in answer.json()["error"]["message"]


@pytest.mark.parametrize("content", [b"", b"not base64! 1\n", b"aGVsbG8= one\n"])
def test_a_vocabulary_that_cannot_be_read_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.tiktoken"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"broken\.tiktoken"):
        vocabulary(str(path))


def test_an_encoding_that_is_not_there_is_told() -> None:
    with pytest.raises(SettingsError, match="allowed are model, an encoding"):
        vocabulary("no_such_encoding")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": []}, 400, "input"),
        ({}, 400, "input"),
        ({"input": [[]]}, 400, "input.0"),
        ({"input": ["a", 7]}, 400, "input.1"),
        ({"input": [True]}, 400, "input.0"),
        ({"input": "a", "dimensions": 0}, 400, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, 400, "encoding_format"),
        ({"input": "a", "normalise": False}, 400, "normalise"),
        ({"input": "a", "no-such field": 1}, 400, "no-such field"),
    ],
)
def test_a_mistake_is_400_and_named(body: dict[str, Any], status: int, param: str) -> None:
    answer = ask("POST", PATH, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UntrainedDimensionsError("short"), 400),
        (InputTooLongError("long"), 400),
        (AuthenticationError("no key"), 401),
        (UnknownModelError("what"), 404),
        (OverloadedError("full", retry_after=2), 429),
        (NotReadyError("soon", retry_after=1), 503),
    ],
)
def test_errors_have_openai_s_status(error: RuntimeFault, status: int) -> None:
    answer = ask("POST", PATH, FakeInference(failure=error), json={"input": "a"})
    assert answer.status_code == status
    assert answer.json()["error"]["message"] == error.message


def test_as_many_token_ids_as_a_request_of_texts_has_tokens_are_read() -> None:
    body = {"input": [[1] * 1000] * 200}
    answer = ask("POST", PATH, json=body, settings={"max_request_bytes": 1_000_000})
    assert answer.json()["error"]["code"] == "UnsupportedField"


NAMES = ["org/embedder", "alias", "org/reranker", "org/other"]


def test_models_are_listed_with_their_served_names() -> None:
    answer = ask("GET", "/v1/models").json()
    assert answer["object"] == "list"
    assert [model["id"] for model in answer["data"]] == NAMES


@pytest.mark.parametrize("name", ["org/embedder", "org%2Fembedder", "alias"])
def test_a_model_is_found_by_its_name(name: str) -> None:
    found = ask("GET", f"/v1/models/{name}").json()
    assert found["id"] == name.replace("%2F", "/")
    assert found["object"] == "model"


def test_a_model_that_is_not_there_is_404() -> None:
    answer = ask("GET", "/v1/models/org/none")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "UnknownModel")


@pytest.mark.parametrize("given", [{"input": "a"}, {"input": "a", "encoding_format": "base64"}])
def test_answers_are_as_documented(given: dict[str, Any]) -> None:
    document = ask("GET", "/openapi.json").json()
    schema = document["paths"][PATH]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    resolved = {**schema, "components": document["components"]}
    validator_for(resolved).validate(ask("POST", PATH, json=given).json())
