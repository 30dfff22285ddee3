"""What every request passes: its id, the API key, what the answer's head tells, how it is counted and told.

Pure ASGI, one layer: a layer costs each request a coroutine and a wrapped send.
"""

import asyncio
from functools import lru_cache
from typing import Any, TypeVar

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedding_runtime import metrics
from embedding_runtime.api.errors import answer
from embedding_runtime.api.exchange import SCOPE_KEY, Exchange
from embedding_runtime.api.keys import ApiKeys
from embedding_runtime.api.life import Life
from embedding_runtime.api.paths import INFERENCE, error_form
from embedding_runtime.errors import DrainingError
from embedding_runtime.settings import Task
from embedding_runtime.telemetry import logger, request_id
from embedding_runtime.tracing import Tracing

_log = logger("access")

_Metric = TypeVar("_Metric", Counter, Histogram)

# What counts inference requests.
_METRICS: dict[Task, tuple[Counter, Histogram]] = {
    "embed": (metrics.EMBED_REQUESTS, metrics.EMBED_SECONDS),
    "rerank": (metrics.RERANK_REQUESTS, metrics.RERANK_SECONDS),
}
# Asked every few seconds, by probes and scrapers.
_PERIODIC = ("/health/", "/metrics")
_REJECTIONS = frozenset({401, 413, 429, 503, 504})
_SUCCESSES = range(200, 300)
_SERVER_ERROR = 500


class Front:
    """ASGI middleware. `keys`: None where no API key is needed. `tracing`: None until the process traces."""

    def __init__(self, app: ASGIApp, life: Life, keys: ApiKeys | None, state: Any) -> None:
        self._app, self._life, self._keys, self._state = app, life, keys, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = scope[SCOPE_KEY] = Exchange.of(scope)
        request_id.set(exchange.id)
        exchange.errors = error_form(exchange.path)
        exchange.in_flight = exchange.method == "POST" and exchange.path in INFERENCE
        if exchange.in_flight:
            exchange.task = INFERENCE[exchange.path]
            self._life.asked()
            metrics.IN_FLIGHT.inc()
        try:
            await self._answer(exchange, scope, receive, send)
        finally:
            _count(exchange)
            self._tell(exchange)

    async def _answer(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] += self._headers(exchange)
            elif not message.get("more_body"):
                _count(exchange)  # whoever has the answer finds it counted, whichever process is scraped
            await send(message)

        try:
            if self._keys is not None and not exchange.path.startswith("/health/"):
                self._keys.check(exchange.headers)
            await self._app(scope, receive, headed)
        except (Exception, asyncio.CancelledError) as raised:
            # Cancelled: the process ends, and this is what did not finish in time.
            cut_off = isinstance(raised, asyncio.CancelledError)
            error = DrainingError("the server is stopping", retry_after=1) if cut_off else raised
            if exchange.status:  # the head of another answer is out
                raise
            await answer(error, scope)(scope, receive, headed)  # type: ignore[arg-type]

    def _headers(self, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        headers = [
            (b"x-request-id", exchange.id.encode()),
            (b"server-timing", exchange.timing().encode()),
        ]
        if self._life.draining:
            headers.append((b"connection", b"close"))
        return headers

    def _tell(self, exchange: Exchange) -> None:
        """Log and trace it; no text of the request, nor a query string that may hold some."""
        periodic = exchange.path.startswith(_PERIODIC)
        seconds = exchange.seconds
        told: dict[str, Any] = {"status": exchange.status, "ms": round(1000 * seconds, 2)}
        if exchange.items:
            told |= {"model": exchange.label, "items": exchange.items, "tokens": exchange.tokens}
        if exchange.failure:
            told["code"] = exchange.failure
        tracing: Tracing | None = self._state.tracing
        if tracing is not None and not periodic:
            told["trace_id"] = _trace(tracing, exchange, seconds)
        log = _log.debug if periodic else _log.info
        log("request", method=exchange.method, path=exchange.path, **told)


def _trace(tracing: Tracing, exchange: Exchange, seconds: float) -> str:
    attributes: dict[str, str | int] = {
        "http.request.method": exchange.method,
        "url.path": exchange.path,
        "http.response.status_code": exchange.status,
        "embedding.request_id": exchange.id,
    }
    if exchange.items:
        attributes |= {
            "embedding.model": exchange.label,
            "embedding.items": exchange.items,
            "embedding.tokens": exchange.tokens,
        }
    if exchange.failure:
        attributes["error.type"] = exchange.failure
    # A name of few values: paths that are not served would make as many as clients think of.
    name = f"{exchange.method} {exchange.path}" if exchange.path in INFERENCE else exchange.method
    return tracing.record(
        name,
        exchange.headers,
        exchange.began,
        seconds,
        attributes,
        [(stage.name, stage.started, stage.seconds) for stage in exchange.stages],
        failed=exchange.status >= _SERVER_ERROR,
    )


def _count(exchange: Exchange) -> None:
    """Count an inference request, once."""
    if not exchange.in_flight:
        return
    exchange.in_flight = False
    metrics.IN_FLIGHT.dec()
    requests, seconds = _METRICS[exchange.task]
    label = exchange.label
    if exchange.status in _SUCCESSES:
        _labelled(requests, label, "success").inc()
        _labelled(seconds, label).observe(exchange.seconds)
        _labelled(metrics.TOKENS, label).inc(exchange.tokens)
        if requests is metrics.EMBED_REQUESTS:
            _labelled(metrics.EMBED_ITEMS, label).inc(exchange.items)
            _labelled(metrics.EMBED_REQUEST_ITEMS, label).observe(exchange.items)
        for stage in exchange.stages:
            _labelled(metrics.STAGE_SECONDS, stage.name).observe(stage.seconds)
        return
    _labelled(requests, label, "failure").inc()
    if exchange.status in _REJECTIONS and exchange.failure:
        _labelled(metrics.REJECTIONS, exchange.failure).inc()


@lru_cache(maxsize=4096)
def _labelled(metric: _Metric, *labels: str) -> _Metric:
    """The metric with its labels; the library takes longer to find it than to count."""
    return metric.labels(*labels)
