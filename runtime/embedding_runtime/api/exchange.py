"""One request and its answer: what is known of it from its head on, and what is found out on the way.

It travels in the ASGI scope; log line, metrics, trace and Server-Timing are all made of it.
"""

import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from embedding_runtime.api.error_form import DOCUMENTED, ErrorForm
from embedding_runtime.service.answers import Stage
from embedding_runtime.settings import Task

SCOPE_KEY = "embedding_runtime.exchange"

_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


@dataclass(slots=True)
class Exchange:
    """`headers`: lower-case name to value. `label`: the model's name for metrics, else `unknown`.

    `began` in seconds since the epoch. `failure` is the error's code, `stages` what the time went into.
    `in_flight`: whether it is counted among the inference requests that are being answered, `task`: as what.
    `errors`: how an error is told.
    """

    id: str
    method: str
    path: str
    headers: dict[bytes, bytes]
    began: float
    started: float
    label: str = "unknown"
    items: int = 0
    tokens: int = 0
    stages: list[Stage] = field(default_factory=list)
    status: int = 0
    failure: str | None = None
    in_flight: bool = False
    task: Task = "embed"
    errors: ErrorForm = DOCUMENTED

    @classmethod
    def of(cls, scope: Any) -> "Exchange":
        """The exchange that begins with an ASGI scope; the client's X-Request-Id counts where it is sane."""
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        known = given.decode("ascii") if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        return cls(known, scope["method"], scope["path"], headers, time.time(), time.perf_counter())

    @property
    def seconds(self) -> float:
        """Since the request's head was read."""
        return time.perf_counter() - self.started

    def timing(self) -> str:
        """The value of Server-Timing, in milliseconds."""
        parts = [f"{stage.name};dur={1000 * stage.seconds:.2f}" for stage in self.stages]
        return ", ".join([*parts, f"total;dur={1000 * self.seconds:.2f}"])


def exchange_of(scope: Any) -> Exchange:
    """The exchange that a scope belongs to."""
    known: Exchange = scope[SCOPE_KEY]
    return known
