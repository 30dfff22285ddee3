"""Traces over OTLP: one server span for each request, with one child for each stage of it.

OpenTelemetry is imported only where OTEL_EXPORTER_OTLP_ENDPOINT is set, and only in the HTTP processes after
the fork, which gRPC does not survive. A collector that is away costs a background thread its time and the log
one line a minute.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, cast

import embedding_runtime
from embedding_runtime.settings import ServeSettings
from embedding_runtime.telemetry import logger

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

_log = logger("tracing")

_COMPLAIN_EVERY_SECONDS = 60.0
_CONTEXT_HEADERS = ("traceparent", "tracestate")


class Tracing:
    """Turns requests that were answered into spans; they travel in the background."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("embedding_runtime", embedding_runtime.__version__)
        self._server, self._error = SpanKind.SERVER, Status(StatusCode.ERROR)
        self._below, self._extract = set_span_in_context, TraceContextTextMapPropagator().extract

    @classmethod
    def of(cls, settings: ServeSettings) -> Self | None:
        """What the settings say; None where they name no collector.

        A mistake in the SDK's own OTEL_* variables is logged, and there are no traces then.
        """
        if settings.otel_exporter_otlp_endpoint is None:
            return None
        try:
            return cls(_provider(settings))
        except ValueError as error:
            _log.error("no traces: an OTEL_* variable has a bad value", error=str(error))
            return None

    def record(
        self,
        name: str,
        headers: Mapping[bytes, bytes],
        began: float,
        seconds: float,
        attributes: Mapping[str, str | int],
        stages: Iterable[tuple[str, float, float]],
        *,
        failed: bool,
    ) -> str:
        """Add the spans of one request; the id of its trace, which a `traceparent` among the headers decides.

        `began` and each stage's (name, start, seconds) are in seconds, starts since the epoch.
        """
        carrier = {
            name: value.decode("latin-1")
            for name in _CONTEXT_HEADERS
            if (value := headers.get(name.encode())) is not None
        }
        span = self._tracer.start_span(
            name,
            context=self._extract(carrier),
            kind=self._server,
            attributes=attributes,
            start_time=_nanoseconds(began),
        )
        if span.is_recording():
            context = self._below(span)
            for stage, started, lasted in stages:
                child = self._tracer.start_span(stage, context=context, start_time=_nanoseconds(started))
                child.end(_nanoseconds(started + lasted))
            if failed:
                span.set_status(self._error)
        span.end(_nanoseconds(began + seconds))
        return f"{span.get_span_context().trace_id:032x}"

    async def flush(self, seconds: float) -> None:
        """Send what is left and end; within `seconds`, whatever the collector does."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop is gone: it took too long
                loop.call_soon_threadsafe(ended.set)

        # A thread of its own: those of the loop's pool are waited for when the loop ends.
        threading.Thread(target=end, daemon=True).start()
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), seconds)


class _Reporting:
    """A span exporter that says once a minute that spans are lost, in place of the SDK's own many lines."""

    def __init__(self, exporter: "SpanExporter", endpoint: str) -> None:
        self._exporter, self._endpoint = exporter, endpoint
        self._lost, self._complained = 0, float("-inf")

    def export(self, spans: "Sequence[ReadableSpan]") -> "SpanExportResult":
        result = self._exporter.export(spans)
        if result.name == "SUCCESS":
            return result
        self._lost += len(spans)
        if time.monotonic() - self._complained >= _COMPLAIN_EVERY_SECONDS:
            _log.warning("the collector takes no traces", endpoint=self._endpoint, lost=self._lost)
            self._lost, self._complained = 0, time.monotonic()
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _provider(settings: ServeSettings) -> "TracerProvider":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    sdk = logging.getLogger("opentelemetry")
    if sdk.level == logging.NOTSET:  # nobody asked for its lines
        sdk.setLevel(logging.CRITICAL)
    attributes = {
        "service.name": settings.otel_service_name,
        "service.version": settings.otel_service_version or embedding_runtime.__version__,
    }
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    reporting = _Reporting(_exporter(settings), str(settings.otel_exporter_otlp_endpoint))
    provider.add_span_processor(BatchSpanProcessor(cast("SpanExporter", reporting)))
    return provider


def _exporter(settings: ServeSettings) -> Any:
    """The exporter; endpoint, headers, certificates, time-out it reads from the OTEL_* variables itself."""
    if settings.otel_exporter_otlp_protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp

    return OverHttp()


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
