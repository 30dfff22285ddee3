"""Jina's dialect over a fake engine. Its ranking is tested with Cohere's."""

import base64
from typing import Any

import numpy as np
import pytest

from embedding_runtime.errors import InputTooLongError, OverloadedError, RuntimeFault
from embedding_runtime.service.queries import EmbedQuery
from tests.unit.runtime.asking import FakeInference, ask

PATH = "/v1/embeddings"
ROW = [0.0, 0.125, 0.25, 0.375]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"task": "retrieval.query"}, {"input_type": "query"}),
        ({"task": "retrieval.passage"}, {"input_type": "document"}),
        ({"task": "separation"}, {"input_type": "clustering"}),
        ({"task": "text-matching"}, {"input_type": "similarity"}),
        ({"task": None}, {}),
        ({"normalized": False}, {"normalize": False}),
        ({"truncate": True, "user": "u"}, {}),
        ({"truncate": False}, {"truncate": "never"}),
        ({"late_chunking": False, "dimensions": 2}, {"dimensions": 2}),
    ],
)
def test_what_is_asked_for_reaches_the_model(given: dict[str, Any], meant: dict[str, Any]) -> None:
    inference = FakeInference()
    answer = ask("POST", PATH, inference, json={"input": ["a"], **given})
    assert answer.json()["data"] == [{"object": "embedding", "index": 0, "embedding": ROW}]
    assert inference.asked == EmbedQuery(["a"], **{"normalize": True, **meant})


def test_texts_may_be_objects() -> None:
    inference = FakeInference()
    assert ask("POST", PATH, inference, json={"input": [{"text": "a"}, {"text": "b"}]}).status_code == 200
    assert inference.asked == EmbedQuery(["a", "b"], normalize=True)


@pytest.mark.parametrize(("kind", "value"), [("ubinary", [0b01110000]), ("binary", [0b01110000 - 128])])
def test_bits_are_packed(kind: str, value: list[int]) -> None:
    (entry,) = ask("POST", PATH, json={"input": "a", "embedding_type": kind}).json()["data"]
    assert entry["embedding"] == value


@pytest.mark.parametrize("field", ["embedding_type", "encoding_format"])
def test_base64_is_little_endian_float32(field: str) -> None:
    body = {"input": "a", "task": "classification", field: "base64"}
    (entry,) = ask("POST", PATH, json=body).json()["data"]
    assert np.frombuffer(base64.b64decode(entry["embedding"]), "<f4").tolist() == ROW


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"late_chunking": True}, "late_chunking"),
        ({"task": "none-such"}, "task"),
        ({"task": "classification", "return_multivector": True}, "return_multivector"),
        ({"embedding_type": "binary", "encoding_format": "base64"}, "encoding_format"),
        ({"embedding_type": "int4"}, "embedding_type"),
    ],
)
def test_what_is_not_served_is_named(given: dict[str, Any], name: str) -> None:
    answer = ask("POST", PATH, json={"input": "a", **given})
    assert answer.status_code == 400
    assert name in answer.json()["detail"]


@pytest.mark.parametrize(
    ("error", "status"), [(InputTooLongError("long"), 400), (OverloadedError("full", retry_after=1), 429)]
)
def test_errors_have_jina_s_body(error: RuntimeFault, status: int) -> None:
    answer = ask("POST", PATH, FakeInference(failure=error), json={"input": "a", "task": "classification"})
    assert (answer.status_code, answer.json()) == (status, {"detail": error.message})


def test_openai_s_requests_stay_openai_s() -> None:
    answer = ask("POST", PATH, json={"input": ["task", '"late_chunking": true'], "colour": 1})
    assert answer.json()["error"]["param"] == "colour"
