"""Logging: one structlog pipeline for our own events and for the libraries' stdlib records.

Lines go to stderr, so that stdout stays free for what a command prints on purpose (prefetch's progress,
doctor).
"""

import logging
import sys
from typing import TextIO

import structlog

from embedding_runtime.settings.filters import PACKAGE, LogFilter

Logger = structlog.stdlib.BoundLogger

# Chatty at info: one line per request to the hub, five per start of a process.
_QUIETER = ("uvicorn", "httpx", "httpx2", "httpcore", "httpcore2", "filelock", "urllib3")


def configure(log_filter: LogFilter, log_format: str, *, process: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (stderr), as JSON or as text, tagged with `process`."""

    def tagged(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["process"] = process
        return event

    shared: list[structlog.typing.Processor] = [
        tagged,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(log_filter.root)
    for name in _QUIETER:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name, level in log_filter.targets.items():
        logging.getLogger(name).setLevel(level)


def logger(name: str) -> Logger:
    """The logger of one part of the server: `embedding_runtime.<name>`."""
    log: Logger = structlog.stdlib.get_logger(f"{PACKAGE}.{name}")
    return log
