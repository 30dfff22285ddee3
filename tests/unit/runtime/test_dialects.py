"""What holds for all dialects: errors in their own bodies whoever raises them, and how they are counted."""

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tests.unit.runtime.asking import ask

OPENAI = {"error"}
COHERE = {"message"}
RANKING = {"message", "detail"}
TEI = {"error", "error_type"}
VALID: dict[str, tuple[set[str], dict[str, Any]]] = {
    "/embed": (OPENAI, {"input": "a"}),
    "/rerank": (OPENAI, {"query": "q", "documents": ["a"]}),
    "/v1/embeddings": (OPENAI, {"input": "a"}),
    "/v1/embed": (COHERE, {"texts": ["a"]}),
    "/v2/embed": (COHERE, {"texts": ["a"]}),
    "/v1/rerank": (RANKING, {"query": "q", "documents": ["a"]}),
    "/v2/rerank": (COHERE, {"query": "q", "documents": ["a"]}),
    "/": (TEI, {"inputs": "a"}),
    "/embed_all": (TEI, {"inputs": "a"}),
    "/predict": (TEI, {"inputs": ["q", "a"]}),
    "/similarity": (TEI, {"inputs": {"source_sentence": "a", "sentences": ["b"]}}),
    "/tokenize": (TEI, {"inputs": "a"}),
    "/decode": (TEI, {"ids": [1]}),
}
COUNTED = sorted(set(VALID) - {"/tokenize", "/decode"})
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("path", VALID)
def test_errors_have_the_dialect_s_body_from_the_first_byte_on(path: str, tmp_path: Path) -> None:
    keys, body = VALID[path]
    (tmp_path / "keys").write_text("secret\n")
    locked = {"api_key_file": tmp_path / "keys"}
    answers = {
        401: ask("POST", path, json=body, settings=locked),
        405: ask("PATCH", path),
        413: ask("POST", path, content=b" " * 3000, headers=JSON),
        400: ask("POST", path, content=b"{", headers=JSON),
        415: ask("POST", path, content=b"{}", headers={**JSON, "Content-Encoding": "br"}),
        200: ask("POST", path, json=body, headers={"X-API-Key": "secret"}, settings=locked),
    }
    assert {status: answer.status_code for status, answer in answers.items()} == {
        each: each for each in answers
    }
    del answers[200]
    assert [set(answer.json()) for answer in answers.values()] == [keys] * len(answers)
    assert answers[401].headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("path", "keys"), [("/v1/none", OPENAI), ("/v2/none", COHERE), ("/none", OPENAI)])
def test_a_path_that_is_not_there_is_told_in_the_form_of_its_beginning(path: str, keys: set[str]) -> None:
    answer = ask("POST", path, json={})
    assert (answer.status_code, set(answer.json())) == (404, keys)


@pytest.mark.parametrize("path", COUNTED)
def test_every_dialect_is_counted_by_what_is_asked_for(path: str) -> None:
    task = "rerank" if path.endswith(("rerank", "predict")) else "embed"
    name = f"inference_{task}_requests_total"
    labels = {"model": {"embed": "org/embedder", "rerank": "org/reranker"}[task], "status": "success"}
    before = REGISTRY.get_sample_value(name, labels) or 0
    answer = ask("POST", path, json=VALID[path][1])
    assert answer.headers["X-Model"] == labels["model"]
    assert REGISTRY.get_sample_value(name, labels) == before + 1


def test_what_is_told_apart_by_shape_is_counted_by_it() -> None:
    labels = {"model": "org/reranker", "status": "success"}
    before = REGISTRY.get_sample_value("inference_rerank_requests_total", labels) or 0
    assert ask("POST", "/", json={"query": "q", "texts": ["a"]}).status_code == 200
    assert REGISTRY.get_sample_value("inference_rerank_requests_total", labels) == before + 1
