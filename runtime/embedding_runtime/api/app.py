"""The FastAPI application of one HTTP process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

import embedding_runtime
from embedding_runtime import metrics
from embedding_runtime.api.errors import install
from embedding_runtime.api.limits import BodyLimit
from embedding_runtime.api.routes import router
from embedding_runtime.service.inference import Inference
from embedding_runtime.settings import ServeSettings

_CPU_TICK_SECONDS = 5.0


def create_app(settings: ServeSettings, inference: Inference) -> FastAPI:
    """The application over `inference`, which it keeps connected for as long as it runs."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(inference.run()), asyncio.create_task(_measure_cpu())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    app = FastAPI(
        title="Embedding Inference API",
        version=embedding_runtime.__version__,
        description="Embeddings and reranking over ONNX Runtime.",
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.inference = inference
    install(app)
    app.include_router(router)
    app.add_middleware(BodyLimit, most=settings.max_request_bytes)
    return app


async def _measure_cpu() -> None:
    meter = metrics.CpuMeter()
    while True:
        await asyncio.sleep(_CPU_TICK_SECONDS)
        meter.tick()
