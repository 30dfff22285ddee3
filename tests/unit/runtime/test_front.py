"""What every request passes: ids, keys, the answer's head, how it is counted and logged."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from embedding_runtime import errors
from embedding_runtime.api.app import create_metrics_app
from embedding_runtime.api.life import Life
from tests.unit.runtime.asking import FakeInference, app, ask, exchange

EMBED, RERANK = {"input": ["a", "b"]}, {"query": "q", "documents": ["a", "b", "c"]}


def _value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("path", ["/health/live", "/nowhere", "/models"])
def test_every_answer_has_a_request_id_of_its_own(path: str) -> None:
    first, second = (ask("GET", path).headers["X-Request-Id"] for _ in range(2))
    assert len(first) == 32
    assert first != second


@pytest.mark.parametrize("given", ["abc-1", "0123456789abcdef" * 8, "a/b:c=d+e@f._"])
def test_a_sane_request_id_is_taken_over(given: str) -> None:
    answer = ask("POST", "/embed", json=EMBED, headers={"X-Request-Id": given})
    assert answer.headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "a" * 129, "a b", "a\tb", "é".encode(), b'"quoted"'])
def test_any_other_request_id_is_replaced(given: str | bytes) -> None:
    raw = given.encode() if isinstance(given, str) else given
    answer = ask("GET", "/models", headers=[(b"X-Request-Id", raw)])
    assert len(answer.headers["X-Request-Id"]) == 32


def test_server_timing_tells_every_stage() -> None:
    timing = ask("POST", "/embed", json=EMBED).headers["Server-Timing"]
    parts = dict(part.split(";dur=") for part in timing.split(", "))
    assert list(parts) == ["tokenize", "queue", "compute", "encode", "total"]
    assert (float(parts["tokenize"]), float(parts["compute"])) == (1.0, 3.0)
    assert float(parts["total"]) > 0
    assert ask("POST", "/embed", json={}).headers["Server-Timing"].startswith("total;dur=")


def test_while_draining_answers_close_the_connection_and_readiness_says_so() -> None:
    life = Life()
    assert "Connection" not in ask("POST", "/embed", life=life, json=EMBED).headers
    life.drain(30, 5)
    answer = ask("POST", "/embed", life=life, json=EMBED)
    assert (answer.status_code, answer.headers["Connection"]) == (200, "close")
    answer = ask("GET", "/health/ready", life=life)
    assert answer.status_code == 503
    assert (answer.json()["status"], answer.json()["reason"]) == ("draining", "Draining")
    assert ask("GET", "/health/live", life=life).status_code == 200
    assert ask("GET", "/health/serving", life=life).status_code == 200


def test_all_but_health_needs_a_key_where_there_are_keys(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("secret\n")
    settings = {"api_key_file": tmp_path / "keys"}
    for path in ("/models", "/metrics", "/docs", "/openapi.json", "/nowhere", "/healthy"):
        answer = ask("GET", path, settings=settings)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.headers["x-should-retry"] == "false"
        assert answer.json()["error"]["type"] == "authentication_error"
    for path in ("/health/live", "/health/ready"):
        assert ask("GET", path, settings=settings).status_code == 200
    for headers in ({"Authorization": "Bearer secret"}, {"X-API-Key": "secret"}, {"api-key": "secret"}):
        assert ask("POST", "/embed", settings=settings, json=EMBED, headers=headers).status_code == 200
    assert ask("POST", "/embed", json=EMBED).status_code == 200


def test_the_metrics_port_needs_no_key_and_has_nothing_that_does() -> None:
    async def asking() -> list[int]:
        application = create_metrics_app(FakeInference(), Life())  # type: ignore[arg-type]
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            paths = ("/health/live", "/health/ready", "/models", "/embed", "/docs", "/openapi.json")
            return [(await client.get(path)).status_code for path in paths]

    assert asyncio.run(asking()) == [200, 200, 404, 404, 404, 404]


@pytest.mark.parametrize(
    ("path", "body", "failure", "model", "reason"),
    [
        ("/embed", EMBED, None, "org/embedder", None),
        ("/rerank", RERANK, None, "org/reranker", None),
        ("/embed", {"input": "a", "model": "made-up"}, errors.UnknownModelError("no"), "unknown", None),
        ("/embed", {"input": 7}, None, "unknown", None),
        ("/embed", {"input": "a" * 3000}, None, "unknown", "RequestTooLarge"),
        ("/embed", EMBED, errors.OverloadedError("full"), "org/embedder", "Exhausted"),
        ("/embed", EMBED, errors.NotReadyError("loading"), "org/embedder", "Loading"),
        ("/embed", {"input": "never"}, None, "org/embedder", "DeadlineExceeded"),
        ("/embed", EMBED, errors.ClientLeftError("left"), "org/embedder", None),
        ("/rerank", RERANK, ZeroDivisionError(), "org/reranker", None),
    ],
)
def test_every_inference_request_is_counted(
    path: str, body: dict[str, Any], failure: Exception | None, model: str, reason: str | None
) -> None:
    kind = f"inference_{path[1:]}"
    answered = failure is None and reason is None and body != {"input": 7}
    status = "success" if answered else "failure"

    def count() -> list[float]:
        return [
            _value(f"{kind}_requests_total", model=model, status=status),
            _value(f"{kind}_duration_seconds_count", model=model),
            _value("inference_tokens_total", model=model),
            _value("inference_stage_duration_seconds_count", stage="compute"),
            _value("inference_rejections_total", reason=reason or "none"),
        ]

    before = count()
    ask("POST", path, FakeInference(failure), settings={"request_timeout_secs": 0.05}, json=body)
    grown = [after - had for after, had in zip(count(), before, strict=True)]
    tokens = {"/embed": 6, "/rerank": 9}[path]
    assert grown == ([1, 1, tokens, 1, 0] if answered else [1, 0, 0, 0, 1 if reason else 0])
    assert _value("inference_requests_in_flight") == 0


def test_whoever_has_the_answer_finds_it_counted() -> None:
    def counted() -> tuple[float, float]:
        answered = _value("inference_embed_requests_total", model="org/embedder", status="success")
        return answered, _value("inference_requests_in_flight")

    seen: dict[str, tuple[float, float]] = {}
    had, _ = counted()
    asyncio.run(
        exchange(
            app(),
            "/embed",
            b'{"input": ["a", "b"]}',
            asyncio.Event(),
            lambda message: seen.update({message["type"]: counted()}),
        )
    )
    assert seen == {"http.response.start": (had, 1), "http.response.body": (had + 1, 0)}


def test_a_refused_key_is_counted(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("secret\n")
    before = _value("inference_rejections_total", reason="Unauthorized")
    ask("POST", "/embed", settings={"api_key_file": tmp_path / "keys"}, json=EMBED)
    assert _value("inference_rejections_total", reason="Unauthorized") == before + 1


def test_texts_are_counted_and_their_number_in_a_request() -> None:
    before = _value("inference_embed_items_total", model="org/embedder")
    sums = _value("inference_embed_request_items_sum", model="org/embedder")
    ask("POST", "/embed", json=EMBED)
    assert _value("inference_embed_items_total", model="org/embedder") == before + 2
    assert _value("inference_embed_request_items_sum", model="org/embedder") == sums + 2


def test_a_request_in_flight_is_a_gauge() -> None:
    async def asking() -> float:
        inference = FakeInference()
        leaving = asyncio.Event()
        body = b'{"input": "never"}'
        request = asyncio.create_task(exchange(app(inference), "/embed", body, leaving))
        await inference.started.wait()
        value = _value("inference_requests_in_flight")
        leaving.set()
        await request
        return value

    assert asyncio.run(asking()) == 1
    assert _value("inference_requests_in_flight") == 0


def test_a_request_is_one_line_without_any_text() -> None:
    with capture_logs() as lines:
        ask("POST", "/rerank?note=private", json={"query": "secret", "documents": ["private", "b"]})
        ask("POST", "/embed", FakeInference(errors.OverloadedError("full")), json={"input": "private"})
    answered, refused = lines
    assert answered.pop("ms") >= 0
    assert answered == {
        "event": "request",
        "log_level": "info",
        "method": "POST",
        "path": "/rerank",
        "status": 200,
        "model": "org/reranker",
        "items": 2,
        "tokens": 9,
    }
    assert (refused["status"], refused["code"]) == (429, "Exhausted")
    assert "private" not in str(lines)
    assert "secret" not in str(lines)


def test_probes_and_scrapes_are_logged_at_debug_alone() -> None:
    with capture_logs() as lines:
        ask("GET", "/health/live")
        ask("GET", "/health/ready")
        ask("GET", "/models")
    assert [line["log_level"] for line in lines] == ["debug", "debug", "info"]


def test_a_client_that_left_is_logged_as_499() -> None:
    async def leave() -> None:
        inference = FakeInference()
        await exchange(app(inference), "/embed", b'{"input": "never"}', inference.started)

    with capture_logs() as lines:
        asyncio.run(leave())
    assert [(line["status"], line["code"]) for line in lines] == [(499, "ClientLeft")]


def test_a_bug_is_logged_with_its_trace_and_told_without() -> None:
    with capture_logs() as lines:
        answer = ask("POST", "/embed", FakeInference(ZeroDivisionError("inner")), json=EMBED)
    assert "inner" not in answer.text
    assert [line["event"] for line in lines] == ["unexpected error", "request"]
    assert isinstance(lines[0]["exc_info"], ZeroDivisionError)
