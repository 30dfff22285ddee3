"""Metrics, logs and traces of a real server: what goes in comes out, once, and without any text."""

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.integration.runtime.server import (
    COMMIT,
    EMBEDDER,
    RERANKER,
    Server,
    environment,
    serving,
    wait_for,
)
from tests.unit.runtime import made

_TRACE, _PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def traced_home(tmp_path: Path) -> Path:
    made.cache(tmp_path, EMBEDDER, COMMIT, made.write_embedder(tmp_path / "embedder"))
    return tmp_path


def _embed(server: Server, **options: Any) -> httpx.Response:
    """Over a new connection, which any of the processes may get."""
    with httpx.Client(base_url=server.client.base_url, trust_env=False, timeout=30) as client:
        return client.post("/embed", json={"input": ["private words", "cat"]}, **options)


def _metric(server: Server, line: str) -> float | None:
    found = re.search(rf"^{re.escape(line)} (\S+)$", server.client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else None


def test_counters_survive_the_death_of_a_process_and_its_gauges_go(made_server: Server) -> None:
    answered = f'inference_embed_requests_total{{model="{EMBEDDER}",status="success"}}'
    bucket = f'inference_embed_request_items_bucket{{le="2.0",model="{EMBEDDER}"}}'
    before = made_server.workers()
    for _ in range(20):
        assert _embed(made_server).status_code == 200
    assert (_metric(made_server, answered), _metric(made_server, bucket)) == (20, 20)
    made_server.client.close()
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    wait_for(lambda: len(set(made_server.workers()) - set(before)) == 2, "new processes")
    made_server.client = httpx.Client(base_url=made_server.client.base_url, trust_env=False, timeout=30)
    made_server.wait_until("ready")
    assert (_metric(made_server, answered), _metric(made_server, bucket)) == (20, 20)
    assert _embed(made_server).status_code == 200
    assert _metric(made_server, answered) == 21
    assert _metric(made_server, "inference_requests_in_flight") == 0


def test_every_scrape_tells_of_all_processes(made_server: Server) -> None:
    for _ in range(10):
        _embed(made_server)
        _embed(made_server, headers={"X-Request-Timeout-Ms": "never"})
    for _ in range(10):
        with httpx.Client(base_url=made_server.client.base_url, trust_env=False) as client:
            text = client.get("/metrics").text
        assert f'inference_embed_requests_total{{model="{EMBEDDER}",status="success"}} 10.0' in text
        assert 'inference_embed_requests_total{model="unknown",status="failure"} 10.0' in text
        assert f'inference_tokens_total{{model="{EMBEDDER}"}} 70.0' in text
        for stage in ("tokenize", "encode"):
            assert f'inference_stage_duration_seconds_count{{stage="{stage}"}} 10.0' in text


def test_the_documented_filter_lets_our_debug_lines_through(traced_home: Path) -> None:
    variables = environment(
        traced_home, DEFAULT_EMBEDDING_MODEL=EMBEDDER, RUST_LOG="info,embedding_inference_api=debug"
    )
    with serving(variables, traced_home / "log") as server:
        server.wait_until("ready")
        wait_for(lambda: any(line["level"] == "debug" for line in server.events("request")), "a debug line")


def test_log_lines_carry_the_request_id_and_no_text(made_server: Server) -> None:
    answer = _embed(made_server, headers={"X-Request-Id": "mine-1"}, params={"note": "hushed"})
    assert answer.headers["X-Request-Id"] == "mine-1"
    _embed(made_server, headers={"X-Request-Id": "mine-2"}, params={"model": "hushed"})
    made_server.client.post("/embed", json={"input": {"private": "words"}})
    made_server.client.post("/embed", content=b"private words")
    wait_for(lambda: len(made_server.events("request")) >= 4, "the log lines")
    first = next(line for line in made_server.events("request") if line["request_id"] == "mine-1")
    assert (first["logger"], first["process"]) == ("embedding_runtime.access", "http")
    assert (first["model"], first["items"], first["tokens"]) == (EMBEDDER, 2, 7)
    log = made_server.log()
    assert "private" not in log
    assert "hushed" not in log
    assert all(line["path"] == "/embed" for line in made_server.events("request"))


def test_lines_of_all_processes_are_whole(traced_home: Path) -> None:
    variables = environment(traced_home, DEFAULT_EMBEDDING_MODEL=EMBEDDER, API_WORKERS="2", LOG_LEVEL="debug")
    with serving(variables, traced_home / "log") as server:
        server.wait_until("ready")
        askers = [threading.Thread(target=lambda: [_embed(server) for _ in range(15)]) for _ in range(4)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        assert server.stop() == 0
        lines = [json.loads(line) for line in server.log().splitlines()]
    assert len([line for line in lines if line["event"] == "request" and line["path"] == "/embed"]) == 60
    assert {"supervisor", "http", "engine"} <= {line["process"] for line in lines}


class _Collector(services.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[messages.ExportTraceServiceRequest] = []

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  gRPC's name
        self.requests.append(request)
        return messages.ExportTraceServiceResponse()

    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def resource(self) -> dict[str, str]:
        attributes = self.requests[0].resource_spans[0].resource.attributes
        return {each.key: each.value.string_value for each in attributes}


@contextmanager
def _over_grpc() -> Iterator[tuple[str, _Collector]]:
    collector = _Collector()
    receiver = grpc.server(futures.ThreadPoolExecutor(2))
    services.add_TraceServiceServicer_to_server(collector, receiver)  # type: ignore[no-untyped-call]
    port = receiver.add_insecure_port("127.0.0.1:0")
    receiver.start()
    try:
        yield f"http://127.0.0.1:{port}", collector
    finally:
        receiver.stop(None).wait(5)


@contextmanager
def _over_http() -> Iterator[tuple[str, _Collector]]:
    collector = _Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            collector.requests.append(messages.ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=receiver.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{receiver.server_port}", collector
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("receiving", "protocol"),
    [(_over_grpc, {}), (_over_http, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"})],
)
def test_traces_reach_a_collector(traced_home: Path, receiving: Any, protocol: dict[str, str]) -> None:
    with receiving() as (endpoint, collector):
        variables = environment(
            traced_home,
            DEFAULT_EMBEDDING_MODEL=EMBEDDER,
            API_WORKERS="2",
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_SERVICE_NAME="embeddings",
            OTEL_SERVICE_VERSION="7.8.9",
            **protocol,
        )
        with serving(variables, traced_home / "log") as server:
            server.wait_until("ready")
            parent = {"traceparent": f"00-{_TRACE}-{_PARENT}-01"}
            assert _embed(server, headers=parent).status_code == 200
            assert server.client.post("/embed", json={"input": 7}).status_code == 422
            server.client.get("/metrics")
            # Before the SDK would send by itself: what is left goes out at the end.
            assert server.stop() == 0
        lines = server.events("request")
    spans = collector.spans()
    servers = {span.span_id: span for span in spans if span.kind == Span.SPAN_KIND_SERVER}
    assert {span.name for span in servers.values()} == {"POST /embed"}
    assert len(servers) == 2
    (answered,) = [span for span in servers.values() if span.trace_id.hex() == _TRACE]
    assert answered.parent_span_id.hex() == _PARENT
    stages = {span.name: span for span in spans if span.parent_span_id == answered.span_id}
    assert {"tokenize", "queue", "compute", "encode"} <= set(stages)
    for span in stages.values():
        assert span.trace_id == answered.trace_id
        assert answered.start_time_unix_nano <= span.start_time_unix_nano + 5_000_000
        assert span.end_time_unix_nano <= answered.end_time_unix_nano + 5_000_000
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    attributes = {each.key: each.value for each in answered.attributes}
    assert attributes["embedding.model"].string_value == EMBEDDER
    assert attributes["http.response.status_code"].int_value == 200
    assert "private" not in str(spans)
    assert collector.resource()["service.name"] == "embeddings"
    assert collector.resource()["service.version"] == "7.8.9"
    assert _TRACE in {line.get("trace_id") for line in lines}


def test_a_collector_that_is_away_neither_slows_nor_floods(traced_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
    variables = environment(
        traced_home,
        DEFAULT_EMBEDDING_MODEL=EMBEDDER,
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
        OTEL_BSP_SCHEDULE_DELAY="100",
        LOG_LEVEL="info",
    )
    with serving(variables, traced_home / "log") as server:
        server.wait_until("ready")
        for _ in range(100):
            answer = server.client.post("/embed", json={"input": "cat"})
            assert answer.status_code == 200
        wait_for(lambda: bool(server.events("the collector takes no traces")), "the line", 20)
        for _ in range(100):
            server.client.post("/embed", json={"input": "cat"})
        assert server.stop() == 0
        other = [line for line in server.log().splitlines() if '"event":"request"' not in line]
    assert len(server.events("the collector takes no traces")) == 1
    assert len(other) < 30


def test_a_bad_variable_of_the_sdk_costs_the_traces_alone(traced_home: Path) -> None:
    variables = environment(
        traced_home,
        DEFAULT_EMBEDDING_MODEL=EMBEDDER,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_TIMEOUT="soon",
    )
    with serving(variables, traced_home / "log") as server:
        server.wait_until("ready")
        assert _embed(server).status_code == 200
        assert server.events("no traces: an OTEL_* variable has a bad value")


def test_nothing_of_opentelemetry_is_loaded_without_a_collector(made_server: Server) -> None:
    _embed(made_server)
    for worker in made_server.workers():
        maps = Path(f"/proc/{worker}/maps").read_text()
        assert "cygrpc" not in maps
    assert RERANKER in made_server.client.get("/models").text
