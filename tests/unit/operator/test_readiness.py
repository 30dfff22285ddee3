"""What a server's answer to /health/ready means: its own words, and silence where they are none."""

import json
from typing import Any

import pytest

from embedding_operator.readiness import Report, Silence, report
from embedding_runtime.api.answers import LoadedModel, NotReady, Ready

LOADED = {
    "model": "a/b",
    "revision": "c" * 40,
    "task": "embed",
    "fingerprint": "ab" * 32,
    "provider": "cuda",
    "fallback": None,
    "precision": "fp16",
    "dimensions": 384,
    "max_tokens": 256,
}
CPU = LOADED | {"provider": "cpu", "fallback": "no GPU"}


def test_the_answers_that_the_runtime_documents_are_understood() -> None:
    ready = Ready(status="ready", models=[LoadedModel.model_validate(LOADED)])
    assert report(200, ready.model_dump_json().encode()) == Report("ready", provider="cuda", precision="fp16")
    fallen = Ready(status="ready", models=[LoadedModel.model_validate(CPU)])
    assert report(200, fallen.model_dump_json().encode()) == Report(
        "ready", provider="cpu", precision="fp16", fallback="no GPU"
    )
    for state in ("loading", "exhausted", "load_failed", "draining"):
        body = NotReady.model_validate({"status": state, "reason": "OutOfMemory", "message": "too large"})
        assert report(503, body.model_dump_json().encode()) == Report(state, "OutOfMemory", "too large")


@pytest.mark.parametrize(
    "text",
    [b"", b"404 page not found", b"[]", b"null", b'{"status": "up"}', b'{"status": 1}', b"\xff"],
)
def test_an_answer_of_another_server_is_no_report(text: bytes) -> None:
    found = report(404, text)
    assert isinstance(found, Silence)
    assert "404" in found.words


@pytest.mark.parametrize("reason", ["", None, "two words", "x" * 65, {"a": 1}])
def test_a_reason_that_is_no_word_does_not_become_one(reason: Any) -> None:
    body = {"status": "load_failed", "reason": reason, "message": "m"}
    assert report(503, json.dumps(body).encode()) == Report("load_failed", "NotReady", "m")


@pytest.mark.parametrize("models", [None, [], [1], {}])
def test_a_ready_server_need_not_say_with_what_it_computes(models: Any) -> None:
    body = {"status": "ready", "models": models}
    assert report(200, json.dumps(body).encode()) == Report("ready")
