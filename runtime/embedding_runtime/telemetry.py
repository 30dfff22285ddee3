"""Logging: one structlog pipeline for our own events and for the libraries' stdlib records.

Lines go to stderr, so that stdout stays free for what a command prints on purpose (prefetch's progress,
doctor). What is logged while a request is answered carries the request's id.
"""

import fcntl
import logging
import os
import select
import stat
import time
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import orjson
import structlog

from embedding_runtime.settings.filters import PACKAGE, LogFilter

Logger = structlog.stdlib.BoundLogger

# The id of the request that the running task answers.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

# Chatty at info: one line per request to the hub, five per start of a process.
_QUIETER = ("uvicorn", "httpx", "httpx2", "httpcore", "httpcore2", "filelock", "urllib3")
_BLOCKED_SECONDS = 1.0
_LOCK_ATTEMPTS, _LOCK_WAIT_SECONDS = 200, 0.005


# What every line of this process says of it.
_tags: dict[str, str] = {}


def _tagged(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.update(_tags)
    if (request := request_id.get()) is not None:
        event["request_id"] = request
    return event


# The same lists always, since a logger keeps those that it met first: that saves a line a third of its time.
_SHARED: list[structlog.typing.Processor] = [
    _tagged,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]
_PROCESSORS: list[structlog.typing.Processor] = [
    structlog.stdlib.filter_by_level,
    *_SHARED,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
]


def configure(log_filter: LogFilter, log_format: str, *, process: str, descriptor: int = 2) -> None:
    """Send every log line of this process to the file `descriptor`, as JSON or as text, tagged with
    `process`.
    """
    _tags["process"] = process
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=_json)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=_PROCESSORS,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    # No line says where in the code, or in which thread, it was made (the logging HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = _LineHandler(descriptor)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
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


def _json(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


class _LineHandler(logging.Handler):
    """Writes each line with a single call, so that lines of several processes never mix.

    A pipe takes more than 4096 bytes in pieces where its reader is slow; there a lock that all processes
    share keeps the lines apart.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._to = descriptor
        self._lock_file = None
        with suppress(OSError):  # started without standard error: nobody hears the lines
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                # Any file will do that every process can open, and each must open it for itself.
                self._lock_file = os.open(__file__, os.O_RDONLY | os.O_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of a record."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
            if self._lock_file is None:
                self._write(line)
                return
            self._take(self._lock_file)
            try:
                self._write(line)
            finally:
                fcntl.flock(self._lock_file, fcntl.LOCK_UN)
        except Exception:
            self.handleError(record)

    def _take(self, lock_file: int) -> None:
        """Take the lock; go on without it where somebody who was stopped holds it."""
        for _ in range(_LOCK_ATTEMPTS):
            try:
                fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(_LOCK_WAIT_SECONDS)

    def _write(self, line: bytes) -> None:
        left = memoryview(line)
        while left:
            try:
                left = left[os.write(self._to, left) :]
            except BlockingIOError:
                # A container's runtime may have made the pipe non-blocking; who reads may be slow, or gone.
                if not select.select([], [self._to], [], _BLOCKED_SECONDS)[1]:
                    return
