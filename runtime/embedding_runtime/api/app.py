"""The FastAPI applications of one HTTP process: the API, and what METRICS_PORT answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

import embedding_runtime
from embedding_runtime import metrics
from embedding_runtime.api.dialects import jina, tei
from embedding_runtime.api.dialects.cohere import add_cohere
from embedding_runtime.api.dialects.openai import add_openai
from embedding_runtime.api.dialects.tei_models import add_tei_models
from embedding_runtime.api.documented import add_page, complete
from embedding_runtime.api.errors import install
from embedding_runtime.api.front import Front
from embedding_runtime.api.keys import ApiKeys
from embedding_runtime.api.life import Life
from embedding_runtime.api.routes import add_inference
from embedding_runtime.api.status import exposition, health, models_list
from embedding_runtime.engine.memory import keep_trimmed
from embedding_runtime.service.inference import Inference
from embedding_runtime.settings import ServeSettings
from embedding_runtime.tracing import Tracing

_CPU_TICK_SECONDS = 5.0
_FLUSH_SECONDS = 3.0
# FastAPI's own, which would tell of requests a second time and hold the messages of exceptions.
_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


def create_app(settings: ServeSettings, inference: Inference, life: Life) -> FastAPI:
    """The application over `inference`, which it keeps connected for as long as it runs."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Not before: gRPC does not survive a fork.
        app.state.tracing = Tracing.of(settings)
        tasks = [asyncio.create_task(each) for each in (inference.run(), _measure_cpu(), keep_trimmed())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if app.state.tracing is not None:
            await app.state.tracing.flush(min(_FLUSH_SECONDS, life.left))

    app = FastAPI(
        title="Embedding Inference API",
        version=embedding_runtime.__version__,
        description="Embeddings and reranking over ONNX Runtime.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry=_NO_TELEMETRY,
    )
    app.state.settings = settings
    add_inference(
        app, embed_variants=[tei.EMBED], rerank_variants=[tei.RERANK]
    )  # first, since routes are tried in their order
    add_openai(app, jina.VARIANTS)
    add_cohere(app)
    tei.add_tei(app)
    add_tei_models(app)
    _common(app, inference, life, ApiKeys(settings.api_key_file) if settings.api_key_file else None)
    app.include_router(models_list)
    add_page(app)
    complete(app, keys=settings.api_key_file is not None)
    return app


def create_metrics_app(inference: Inference, life: Life) -> FastAPI:
    """What METRICS_PORT answers, without API keys: /metrics and /health."""
    app = FastAPI(openapi_url=None, telemetry=_NO_TELEMETRY)
    _common(app, inference, life, None)
    return app


def _common(app: FastAPI, inference: Inference, life: Life, keys: ApiKeys | None) -> None:
    app.state.inference, app.state.life, app.state.tracing = inference, life, None
    install(app)
    app.add_middleware(Front, life=life, keys=keys, state=app.state)
    app.include_router(health)
    app.include_router(exposition)


async def _measure_cpu() -> None:
    meter = metrics.CpuMeter()
    while True:
        await asyncio.sleep(_CPU_TICK_SECONDS)
        meter.tick()
