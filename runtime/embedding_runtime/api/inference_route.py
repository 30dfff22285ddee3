"""The kind of route that every inference endpoint is: bounded body, one schema, a deadline, a client that may
leave.

FastAPI reads the endpoint's signature for its OpenAPI document; the request itself does not go through its
dependency machinery, which costs more than everything else between socket and tokenizer.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, get_type_hints

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from embedding_runtime.api.bodies import MANY_VALUES, check_values, parse, read_body
from embedding_runtime.api.codings import decoded
from embedding_runtime.api.error_form import ErrorForm
from embedding_runtime.api.exchange import exchange_of
from embedding_runtime.api.waiting import allowed_seconds, deadline, while_connected
from embedding_runtime.settings import ServeSettings, Task

# What requests have before and after their texts.
_END_BYTES = 1024

Endpoint = Callable[[Any, Request], Awaitable[Response]]


@dataclass(frozen=True)
class Variant:
    """A form of requests that shares a path with another one, and is told from it by a key of its body, and
    where that is not enough by how the key's value begins, as a regular expression.

    `task`: as what it is counted; `answer`: the schema of a successful answer.
    """

    key: str
    endpoint: Endpoint
    answer: Any
    errors: ErrorForm
    task: Task
    beginning: bytes = b""

    @cached_property
    def schema(self) -> type[BaseModel]:
        """Of its requests."""
        return schema_of(self.endpoint)

    def fits(self, body: bytes) -> bool:
        """Whether JSON, or a part of it, has the key with such a value."""
        return _has(body, self.key, self.beginning)


def told_apart(body: bytes, own: str, variants: Sequence[Variant]) -> Variant | None:
    """The variant that a JSON body has the form of, seen without parsing it; None: the path's own form.

    Its ends show it, around the one long value that a request has. Only where they show neither a variant nor
    the key `own` all of it is searched, which takes a quarter of the time of parsing it.
    """
    parts = [body]
    if len(body) > 2 * _END_BYTES:
        ends = body[:_END_BYTES] + b" " + body[-_END_BYTES:]
        parts = [ends] if _has(ends, own) else [ends, body]
    for part in parts:
        for variant in variants:
            if variant.fits(part):
                return variant
    return None


def _has(body: bytes, key: str, beginning: bytes = b"") -> bool:
    # In a text, quotes have backslashes: what looks like a key is one.
    quoted, pattern = _key(key, beginning)
    return quoted in body and pattern.search(body) is not None


@cache
def _key(key: str, beginning: bytes) -> tuple[bytes, re.Pattern[bytes]]:
    quoted = b'"%b"' % key.encode()
    return quoted, re.compile(re.escape(quoted) + rb"\s*:\s*" + beginning)


class InferenceRoute(APIRoute):
    """The route of an `async def endpoint(body: Schema, request: Request) -> Response`.

    `own_key`: the key of its requests' long value. `most_values`: how many values a body may hold, where that
    is more than inputs may be.
    """

    def __init__(
        self,
        path: str,
        endpoint: Endpoint,
        *,
        own_key: str = "",
        variants: Sequence[Variant] = (),
        most_values: int = MANY_VALUES,
        **options: Any,
    ) -> None:
        super().__init__(path, endpoint, **options)
        self.variants = variants
        self.app = _answering(endpoint, own_key, variants, most_values)


def schema_of(endpoint: Endpoint) -> type[BaseModel]:
    """The schema of the requests that an endpoint answers."""
    schema: type[BaseModel] = get_type_hints(endpoint)["body"]
    return schema


def _answering(endpoint: Endpoint, own_key: str, variants: Sequence[Variant], most_values: int) -> ASGIApp:
    schema = schema_of(endpoint)

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        settings: ServeSettings = scope["app"].state.settings
        exchange = exchange_of(scope)
        headers = exchange.headers
        async with deadline(allowed_seconds(headers, settings.request_timeout_secs)):
            sent = await read_body(receive, headers, settings.max_request_bytes)
            content = await decoded(sent, headers, settings.max_request_bytes)
            answers, wanted = endpoint, schema
            if variants and (variant := told_apart(content, own_key, variants)):
                answers, wanted = variant.endpoint, variant.schema
                exchange.errors, exchange.task = variant.errors, variant.task
            await check_values(content, settings.max_inputs_per_request, most_values)
            body = parse(wanted, content, headers)
            async with while_connected(receive):
                response = await answers(body, Request(scope))
        await response(scope, receive, send)

    return answering
