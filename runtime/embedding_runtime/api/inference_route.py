"""The kind of route that every inference endpoint is: bounded body, one schema, a deadline, a client that may
leave.

FastAPI reads the endpoint's signature for its OpenAPI document; the request itself does not go through its
dependency machinery, which costs more than everything else between socket and tokenizer.
"""

from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from embedding_runtime.api.bodies import check_values, parse, read_body
from embedding_runtime.api.codings import decoded
from embedding_runtime.api.exchange import exchange_of
from embedding_runtime.api.waiting import allowed_seconds, deadline, while_connected
from embedding_runtime.settings import ServeSettings

Endpoint = Callable[[Any, Request], Awaitable[Response]]


class InferenceRoute(APIRoute):
    """The route of an `async def endpoint(body: Schema, request: Request) -> Response`."""

    def __init__(self, path: str, endpoint: Endpoint, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = _answering(endpoint, get_type_hints(endpoint)["body"])


def _answering(endpoint: Endpoint, schema: type[BaseModel]) -> ASGIApp:
    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        settings: ServeSettings = scope["app"].state.settings
        headers = exchange_of(scope).headers
        async with deadline(allowed_seconds(headers, settings.request_timeout_secs)):
            sent = await read_body(receive, headers, settings.max_request_bytes)
            content = await decoded(sent, headers, settings.max_request_bytes)
            await check_values(content, settings.max_inputs_per_request)
            body = parse(schema, content, headers)
            async with while_connected(receive):
                response = await endpoint(body, Request(scope))
        await response(scope, receive, send)

    return answering
