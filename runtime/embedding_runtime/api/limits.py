"""The bound on a request's body, kept while it streams in: nothing larger is ever held in memory."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedding_runtime.api.errors import error_response
from embedding_runtime.errors import RequestTooLargeError


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
            await self._refuse(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                raise RequestTooLargeError(self._text())
            return message

        await self._app(scope, counted, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = error_response(RequestTooLargeError(self._text()))
        # The rest of the body is not read, so the connection cannot be used again.
        response.headers["Connection"] = "close"
        await response(scope, receive, send)

    def _text(self) -> str:
        return f"the body is larger than {self._most} bytes (MAX_REQUEST_BYTES)"
