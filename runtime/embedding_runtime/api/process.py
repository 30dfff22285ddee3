"""The HTTP process: uvicorn over the socket that the supervisor bound. Runs in processes forked by the
supervisor.
"""

import signal
import socket
from collections.abc import Callable

import uvicorn

from embedding_runtime.api.app import create_app
from embedding_runtime.service.inference import Inference
from embedding_runtime.settings import ServeSettings
from embedding_runtime.telemetry import configure

_KEEP_ALIVE_SECONDS = 120


def prepare(settings: ServeSettings, listening: socket.socket, engine_socket: str) -> Callable[[], None]:
    """Build everything that HTTP processes have in common; the result serves, and is called in each of them.

    It serves until SIGTERM, then stops accepting, finishes what is in flight within SHUTDOWN_TIMEOUT_SECS and
    returns.
    """
    config = uvicorn.Config(
        create_app(settings, Inference(settings, engine_socket)),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout_secs)),
        lifespan="on",
    )
    config.load()

    def serve() -> None:
        configure(settings.log_filter, settings.log_format, process="http")
        # uvicorn raises the signal that ended it again, after its own handler is gone: then it must not kill.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        uvicorn.Server(config).run(sockets=[listening])

    return serve
