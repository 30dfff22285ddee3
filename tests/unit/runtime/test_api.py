"""The HTTP surface over a fake engine: bodies, statuses, the shape of every error."""

import asyncio
from typing import Any

import pytest

from embedding_runtime import errors
from embedding_runtime.service.answers import Health
from embedding_runtime.service.queries import EmbedQuery, RerankQuery
from tests.unit.runtime.asking import FakeInference, app, ask, exchange

JSON = {"Content-Type": "application/json"}


def test_a_list_is_embedded_in_order() -> None:
    answer = ask("POST", "/embed", json={"input": ["a", "b"], "model": "org/embedder"})
    assert answer.status_code == 200
    assert answer.headers["X-Model-Fingerprint"] == "f" * 64
    assert answer.json() == {
        "embeddings": [[0, 0.125, 0.25, 0.375], [0.5, 0.625, 0.75, 0.875]],
        "model": "org/embedder",
        "usage": {"total_tokens": 6},
    }


def test_a_string_is_a_list_of_one() -> None:
    assert len(ask("POST", "/embed", json={"input": "a"}).json()["embeddings"]) == 1


def test_what_an_embedding_request_asks_for_reaches_the_inference() -> None:
    inference = FakeInference()
    asked = {"truncate": False, "prompt_name": "p", "input_type": "query"}
    assert ask("POST", "/embed", inference, json={"input": "a", **asked}).status_code == 200
    told = EmbedQuery(["a"], truncate="never", prompt_name="p", input_type="query", outputs=())
    assert inference.asked == told
    ask("POST", "/embed", inference, json={"input": "a", "outputs": ["sparse"]})
    assert inference.asked == EmbedQuery(["a"], outputs=("sparse",))


def test_the_id_of_the_model_answers_where_an_alias_was_asked() -> None:
    answer = ask("POST", "/embed", json={"input": "a", "model": "alias"})
    assert answer.json()["model"] == "org/embedder"


def test_documents_come_best_first_with_their_texts() -> None:
    answer = ask("POST", "/rerank", json={"query": "q", "documents": ["a", "b", "c"], "top_n": 2})
    assert answer.json() == {
        "results": [
            {"index": 2, "score": 0.5, "text": "c"},
            {"index": 1, "score": pytest.approx(1 / 3), "text": "b"},
        ],
        "model": "org/reranker",
        "usage": {"total_tokens": 9},
    }


def test_documents_can_be_left_out_and_top_n_may_exceed_them() -> None:
    body = {"query": "q", "documents": ["a"], "return_documents": False, "top_n": 10**30}
    assert ask("POST", "/rerank", json=body).json()["results"] == [{"index": 0, "score": 0.5}]


def test_raw_scores_are_the_logits() -> None:
    inference = FakeInference()
    body = {"query": "q", "documents": ["a", "b"], "raw_scores": True, "truncate": False}
    answer = ask("POST", "/rerank", inference, json=body)
    assert [result["score"] for result in answer.json()["results"]] == [0.0, -1.0]
    assert inference.asked == RerankQuery("q", ["a", "b"], truncate="never")


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "words"),
    [
        ("/embed", "{", 400, None, "not JSON"),
        ("/embed", "", 400, None, "empty"),
        ("/embed", " \n", 400, None, "empty"),
        ("/embed", "[]", 422, None, "object"),
        ("/embed", "null", 422, None, "object"),
        ("/embed", "{}", 422, "input", "required"),
        ("/embed", '{"input": []}', 422, "input", "at least 1"),
        ("/embed", '{"input": null}', 422, "input", "valid string or: Input should be a valid array"),
        ("/embed", '{"input": 7}', 422, "input", "valid string"),
        ("/embed", '{"input": NaN}', 422, "input", "valid string"),
        ("/embed", '{"input": ["a", 7]}', 422, "input.1", "valid string"),
        ("/embed", '{"input": ["a"], "model": 7}', 422, "model", "valid string"),
        ("/embed", '{"input": "a", "truncate": "yes"}', 422, "truncate", "boolean"),
        ("/embed", '{"input": "a", "input_type": "other"}', 422, "input_type", "'query'"),
        ("/embed", r'{"input": "\ud800"}', 400, None, "not JSON"),
        ("/embed", "[" * 1900, 400, None, "recursion"),
        ("/embed", '{"input": "a", "x": ' + "9" * 1900 + "1" * 0 + "}", 200, None, ""),
        ("/embed", '{"input": "a", "x": 1e999}', 200, None, ""),
        ("/embed", '{"input": "a", "input": "b"}', 200, None, ""),
        ("/embed", '{"input": "a", "unheard": "of"}', 200, None, ""),
        ("/rerank", '{"documents": ["a"]}', 422, "query", "required"),
        ("/rerank", '{"query": "q"}', 422, "documents", "required"),
        ("/rerank", '{"query": "q", "documents": []}', 422, "documents", "at least 1"),
        ("/rerank", '{"query": "q", "documents": "a"}', 422, "documents", "array"),
        ("/rerank", '{"query": "q", "documents": ["a"], "top_n": 0}', 422, "top_n", "greater"),
        ("/rerank", '{"query": "q", "documents": ["a"], "top_n": "2"}', 422, "top_n", "integer"),
        ("/rerank", '{"query": "q", "documents": ["a"], "top_n": 1e400}', 422, "top_n", "integer"),
    ],
)
def test_what_is_wrong_with_a_body_is_told(
    path: str, body: str, status: int, param: str | None, words: str
) -> None:
    answer = ask("POST", path, content=body, headers=JSON)
    assert answer.status_code == status
    if status == 200:
        return
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert words in error["message"]
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "text/plain", ";"])
def test_a_body_that_is_not_called_json_is_refused(content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = ask("POST", "/embed", content=b'{"input": "a"}', headers=headers)
    assert answer.status_code == 400
    assert "application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/ld+json"])
def test_every_kind_of_json_is_taken(content_type: str) -> None:
    answer = ask("POST", "/embed", content=b'{"input": "a"}', headers={"Content-Type": content_type})
    assert answer.status_code == 200


def test_a_form_is_refused() -> None:
    assert ask("POST", "/embed", data={"input": "a"}).status_code == 400


@pytest.mark.parametrize(
    ("failure", "status", "headers"),
    [
        (errors.UnknownModelError("no"), 404, {"x-should-retry": "false"}),
        (errors.WrongTaskError("no"), 400, {"x-should-retry": "false"}),
        (errors.UnsupportedModelRequestError("no"), 400, {"x-should-retry": "false"}),
        (errors.TooManyInputsError("no"), 413, {"x-should-retry": "false"}),
        (errors.InputTooLongError("no"), 413, {"x-should-retry": "false"}),
        (errors.QueryTooLongError("no"), 413, {"x-should-retry": "false"}),
        (errors.OverloadedError("full", retry_after=2.2), 429, {"retry-after": "3"}),
        (errors.NotReadyError("loading", retry_after=1), 503, {"retry-after": "1"}),
        (errors.OutOfMemoryError("no room", retry_after=5), 503, {"retry-after": "5"}),
        (errors.EngineUnavailableError("gone", retry_after=0.1), 503, {"retry-after": "1"}),
        (errors.LoadFailedError("broken"), 503, {"x-should-retry": "false"}),
        (errors.CorruptModelError("tokenizer.json cannot be read"), 503, {"x-should-retry": "false"}),
        (errors.HubUnreachableError("away"), 503, {}),
        (errors.DeadlineExceededError("late"), 504, {}),
        (errors.InternalError("bug"), 500, {}),
        (ZeroDivisionError("secret detail"), 500, {}),
    ],
)
def test_each_failure_has_its_status(failure: Exception, status: int, headers: dict[str, str]) -> None:
    answer = ask("POST", "/embed", FakeInference(failure), json={"input": "a"})
    assert answer.status_code == status
    assert headers.items() <= dict(answer.headers).items()
    assert not {"retry-after", "x-should-retry"} <= set(answer.headers)
    assert "secret detail" not in answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_body_over_the_limit_is_refused_stated_or_streamed() -> None:
    assert ask("POST", "/embed", json={"input": "a" * 3000}).status_code == 413

    async def chunks() -> Any:
        for _ in range(30):
            yield b"a" * 100

    answer = ask("POST", "/embed", content=chunks(), headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "RequestTooLarge"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/nowhere", 404, "NotFound"), ("GET", "/embed", 405, "MethodNotAllowed")],
)
def test_what_is_not_there_answers_in_the_same_shape(method: str, path: str, status: int, code: str) -> None:
    answer = ask(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert answer.headers["x-should-retry"] == "false"
    assert status != 405 or answer.headers["Allow"] == "POST"


def test_models_are_listed_by_task_with_their_aliases() -> None:
    assert ask("GET", "/models").json() == {
        "embedding_models": ["org/embedder", "alias", "org/other"],
        "reranking_models": ["org/reranker"],
    }
    assert ask("GET", "/models?detail=false").json() == ask("GET", "/models").json()


def test_the_detail_of_models_tells_what_is_known() -> None:
    loaded, _, available = ask("GET", "/models?detail=true").json()["models"]
    assert loaded == {
        "model": "org/embedder",
        "served_names": ["alias"],
        "task": "embed",
        "kind": "dense",
        "state": "ready",
        "reason": "",
        "message": "",
        "default": True,
        "dimensions": 4,
        "max_tokens": 16,
        "revision": "0123456789abcdef0123456789abcdef01234567",
        "provider": "cpu",
        "fallback": None,
        "precision": "fp32",
        "prepared": False,
        "unprepared": "no room",
        "unfused": "1 of 6 GELU",
        "memory_bytes": 7,
        "source": None,
        "fingerprint": "f" * 64,
    }
    assert set(available) == set(loaded)
    assert available["source"] == {"repository": "org/export", "file": "onnx/model.onnx"}
    assert (available["state"], available["dimensions"], available["memory_bytes"]) == (
        "available",
        None,
        None,
    )


def test_a_parameter_of_the_wrong_type_is_told() -> None:
    answer = ask("GET", "/models?detail=maybe")
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == "detail"


def test_ready_describes_what_is_served() -> None:
    answer = ask("GET", "/health/ready")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ready"
    assert answer.json()["models"][0]["fingerprint"] == "f" * 64


def test_not_ready_says_why_and_liveness_does_not_care() -> None:
    health = Health("load_failed", "FingerprintMismatch", "expected a, found b", ())
    answer = ask("GET", "/health/ready", FakeInference(health=health))
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "load_failed",
        "reason": "FingerprintMismatch",
        "message": "expected a, found b",
    }
    assert ask("GET", "/health/live", FakeInference(health=health)).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"), [("/embed", {"input": "a"}), ("/rerank", {"query": "q", "documents": ["a"]})]
)
@pytest.mark.parametrize("asked", ["interactive", "bulk"])
def test_the_class_that_a_client_names_reaches_the_inference(
    path: str, body: dict[str, object], asked: str
) -> None:
    inference = FakeInference()
    answer = ask("POST", path, inference, json=body, headers={"X-Priority": asked})
    assert answer.status_code == 200
    assert inference.asked is not None
    assert inference.asked.priority == asked


@pytest.mark.parametrize("asked", ["", "urgent", "Bulk", "interactive, bulk", "é"])
def test_an_unknown_class_is_refused(asked: str) -> None:
    headers = [(b"X-Priority", asked.encode())]
    answer = ask("POST", "/embed", json={"input": "a"}, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "X-Priority"
    assert "interactive, bulk" in answer.json()["error"]["message"]


@pytest.mark.parametrize("asked", ["0", "-1", "1.5", "soon", "", "1e3", "٣", "000"])
def test_a_time_out_that_is_no_positive_number_is_refused(asked: str) -> None:
    headers = [(b"X-Request-Timeout-Ms", asked.encode())]
    answer = ask("POST", "/embed", json={"input": "a"}, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "X-Request-Timeout-Ms"


@pytest.mark.parametrize("asked", ["1000", " 60000 ", "9" * 5000])
def test_any_positive_time_out_is_taken(asked: str) -> None:
    answer = ask("POST", "/embed", json={"input": "a"}, headers={"X-Request-Timeout-Ms": asked})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "settings", "words"),
    [
        ({"X-Request-Timeout-Ms": "50"}, {}, "50 ms"),
        ({}, {"request_timeout_secs": 0.05}, "50 ms"),
        ({"X-Request-Timeout-Ms": "60000"}, {"request_timeout_secs": 0.05}, "50 ms"),
    ],
)
def test_past_the_deadline_the_work_is_cancelled(
    headers: dict[str, str], settings: dict[str, Any], words: str
) -> None:
    inference = FakeInference()
    answer = ask("POST", "/embed", inference, settings=settings, json={"input": "never"}, headers=headers)
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "DeadlineExceeded"
    assert words in answer.json()["error"]["message"]
    assert inference.cancelled


def test_the_work_of_a_client_that_left_is_cancelled() -> None:
    async def leave() -> tuple[bool, int]:
        inference = FakeInference()
        body = b'{"query": "never", "documents": ["a"]}'
        sent = await exchange(app(inference), "/rerank", body, inference.started)
        return inference.cancelled, sent[0]["status"]

    assert asyncio.run(leave()) == (True, 499)


def test_what_is_cut_off_at_the_end_is_told_so() -> None:
    async def cut_off() -> tuple[int, bool]:
        inference = FakeInference()
        body = b'{"query": "never", "documents": ["a"]}'
        asking = asyncio.create_task(exchange(app(inference), "/rerank", body, asyncio.Event()))
        await inference.started.wait()
        asking.cancel()
        sent = await asking
        return sent[0]["status"], b"Draining" in sent[1]["body"]

    assert asyncio.run(cut_off()) == (503, True)
