"""python -m embedding_operator: wires settings, client, queue and reconciler together, and runs kopf."""

import asyncio
import sys
from datetime import UTC, datetime

import kopf
import structlog
from prometheus_client import start_http_server
from pydantic import ValidationError

from embedding_operator import api, cluster, handlers, logs
from embedding_operator.api import Key
from embedding_operator.cluster import KubernetesCluster
from embedding_operator.errors import ApiError
from embedding_operator.lookups.servers import HttpServers
from embedding_operator.queue import WorkQueue, jitter
from embedding_operator.reconcile import Outcome, Reconciler
from embedding_operator.resources.meta import Runtime
from embedding_operator.settings import Settings

log = structlog.get_logger("embedding_operator")

IMAGE_VOLUMES_SINCE = (1, 35)
"""The first version of Kubernetes whose feature gate ImageVolume is on by itself."""

CRD_SECONDS = 120
"""How long to wait at start for the API server and for the CRD, which may just be being applied."""


async def operate(settings: Settings) -> None:
    """Runs until a signal, or until a part of it fails. Raises what it failed of."""
    client, servers = await cluster.connect(), HttpServers()
    try:
        await _wait_for_crd(client)
        cache = handlers.IndexCache()
        reconciler = Reconciler(
            client,
            cache,
            servers,
            _runtime(settings, image_volumes=await _image_volumes(settings, client)),
            lambda: datetime.now(UTC),
            jitter,
            prefetches=settings.max_concurrent_prefetches,
            allowed=settings.pod_template_allow,
        )

        async def work(key: Key, fresh: bool) -> Outcome:
            return await reconciler(key, fresh=fresh)

        queue = WorkQueue(
            work,
            workers=settings.reconcile_workers,
            resync=settings.resync_seconds,
            clock=asyncio.get_running_loop().time,
        )
        worker = asyncio.create_task(queue.run(), name="work queue")
        watcher = asyncio.create_task(
            kopf.operator(
                registry=handlers.registry(cache, queue.add, queue.oldest),
                settings=handlers.configure(kopf.OperatorSettings()),
                standalone=True,
                clusterwide=True,
                liveness_endpoint=f"http://0.0.0.0:{settings.health_port}/healthz",
            ),
            name="kopf",
        )
        await _until_one_ends(worker, watcher)
    finally:
        await servers.close()
        await client.close()


async def _until_one_ends(*tasks: "asyncio.Task[None]") -> None:
    """Waits for the first task to end, ends the others, and raises what the first failed of."""
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    for task in done:
        task.result()


async def _wait_for_crd(client: KubernetesCluster) -> None:
    """Waits until the API server serves the kind. Raises errors.ApiError where it does not."""
    try:
        async with asyncio.timeout(CRD_SECONDS):
            while not await _serves(client):  # noqa: ASYNC110 - another process is waited for
                await asyncio.sleep(2)
    except TimeoutError:
        raise ApiError(
            f"no {api.KIND} CRD after {CRD_SECONDS} s; apply it: kubectl apply -k manifests/base"
        ) from None


async def _serves(client: KubernetesCluster) -> bool:
    try:
        found = await client.serves(api.KIND)
    except ApiError as error:
        log.warning("waiting for the API server", error=str(error))
        return False
    if not found:
        log.info("waiting for the CRD", kind=api.KIND)
    return found


async def _image_volumes(settings: Settings, client: KubernetesCluster) -> bool:
    """Returns whether pods can mount images. Raises errors.ApiError where the API server does not say."""
    if settings.image_volumes != "auto":
        return settings.image_volumes == "true"
    version = await client.version()
    has = version >= IMAGE_VOLUMES_SINCE
    log.info("image volumes", used=has, kubernetes=".".join(map(str, version)))
    return has


def _runtime(settings: Settings, *, image_volumes: bool) -> Runtime:
    return Runtime(
        image=settings.runtime_image,
        pull_policy=settings.runtime_image_pull_policy,
        hf_endpoint=settings.hf_endpoint,
        log_level=settings.log_level,
        log_format=settings.log_format,
        image_volumes=image_volumes,
    )


def main() -> int:
    """Returns the exit code: 0 after a signal, 1 where the operator failed, 2 for wrong settings."""
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "".join(str(part) for part in problem["loc"][:1]).upper()
            print(f"{name}: {problem['msg']}", file=sys.stderr)
        return 2
    logs.configure(settings.log_level, settings.log_format)
    log.info("starting", **settings.model_dump())
    try:
        start_http_server(settings.metrics_port)
        asyncio.run(operate(settings))
    except (ApiError, OSError) as error:
        log.error("stopped", error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
