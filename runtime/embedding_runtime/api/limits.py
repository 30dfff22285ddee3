"""The bound on a request's body, kept while it streams in: nothing larger is ever held in memory."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedding_runtime.api.errors import error_response
from embedding_runtime.errors import RequestTooLargeError

# A client that is still sending sees a broken connection, not our answer: so what is too much is read and
# thrown away, up to this many times the limit.
_PATIENCE = 10


class BodyLimit:
    """ASGI middleware: answers 413 to a body of more than `most` bytes."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stated = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if stated.isdigit() and int(stated) > self._most:
            await self._throw_away(receive)
            await error_response(self._error())(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                if message.get("more_body"):
                    await self._throw_away(receive)
                raise self._error()
            return message

        await self._app(scope, counted, send)

    async def _throw_away(self, receive: Receive) -> None:
        left = _PATIENCE * self._most
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if not message.get("more_body"):
                return

    def _error(self) -> RequestTooLargeError:
        return RequestTooLargeError(f"the body is larger than {self._most} bytes (MAX_REQUEST_BYTES)")
