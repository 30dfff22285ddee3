"""The HTTP/1.1 protocol: uvicorn's over httptools, with three of httptools' holes mended, and the head of an
answer in one packet with its body.

httptools holds a head of any size, takes one without a Host, and of a request that offers to upgrade it drops
the body: Java's client offers HTTP/2 with every request.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from embedding_runtime.api.errors import error_response
from embedding_runtime.errors import MalformedRequestError, RequestError, RequestTooLargeError

# What h11, uvicorn's other parser, allows as well.
_LARGEST_HEAD = 65_536
_FRAMING = (b"content-length", b"transfer-encoding")
# A larger body is sent by itself: it would be copied, and takes several packets anyway.
_SMALL_BODY = 65_536


class HttpProtocol(HttpToolsProtocol):
    """Refuses a head that is too large or has no Host, and ignores offers to upgrade.

    `lost` is called when the connection is.
    """

    def __init__(self, *arguments: Any, lost: Callable[[], None] = lambda: None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lost = lost
        self._head_bytes = 0
        self._reading_head = self._repeating_head = False

    def connection_lost(self, exc: Exception | None) -> None:
        """End everything that belongs to the connection."""
        self._lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._refuse(_mistake(error))
            return
        self._head_bytes = self._head_bytes + len(data) if self._reading_head else 0
        if self._head_bytes > _LARGEST_HEAD and not self.transport.is_closing():
            self._refuse(MalformedRequestError(f"the request's head is larger than {_LARGEST_HEAD} bytes"))

    def _refuse(self, error: RequestError) -> None:
        """Answer what is no request, in the shape of every other error, and end the connection."""
        answer = error_response(error)
        headers = [b"%s: %s\r\n" % header for header in (*answer.raw_headers, (b"connection", b"close"))]
        self.transport.write(b"".join([STATUS_LINE[answer.status_code], *headers, b"\r\n", answer.body]))
        self.transport.close()

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                # The parser takes what follows the head for another protocol's. It is this request's body.
                data = data[upgrade.args[0] :]
                self._continue_after_head()

    def _continue_after_head(self) -> None:
        """Put a parser in place that has read the head of the current request, without its upgrade."""
        framing = [b"%s: %s\r\n" % (name, value) for name, value in self.headers if name in _FRAMING]
        self.parser = httptools.HttpRequestParser(self)
        self._repeating_head = True
        self.parser.feed_data(b"".join([b"POST / HTTP/1.1\r\n", *framing, b"\r\n"]))
        self._repeating_head = False

    def on_message_begin(self) -> None:
        """Begin a head."""
        if not self._repeating_head:
            self._reading_head = True
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        if not self._repeating_head:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        if not self._repeating_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End a head."""
        if self._repeating_head:
            return
        self._reading_head = False
        if self.parser.get_http_version() == "1.1" and all(name != b"host" for name, _ in self.headers):
            raise MalformedRequestError("HTTP/1.1 without a Host header", param="Host")
        super().on_headers_complete()
        # An answer to HEAD has no body to wait for; of an upgrade that is offered uvicorn makes no cycle.
        if self.cycle is not None and self.cycle.scope is self.scope and self.scope["method"] != "HEAD":
            self.cycle.transport = cast(asyncio.Transport, Joining(self.cycle))

    def on_message_complete(self) -> None:
        """End a request; where it offers to upgrade, its body comes yet."""
        if not self.parser.should_upgrade():
            super().on_message_complete()


class Joining:
    """The transport of one answer, whose head waits for the beginning of the body.

    That saves the server a call of the system, and a client from being woken up for the head alone.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle, self._transport = cycle, cycle.transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        """Send a part of the answer; what goes out before it, as `100 Continue` does, goes out at once."""
        if self._head is None and self._cycle.response_started:
            self._head = data
        elif self._head and len(data) <= _SMALL_BODY:
            self._transport.write(self._head + data)
            self._head = b""
        else:
            self._send_head()
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection when everything is sent."""
        self._send_head()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is being closed."""
        return self._transport.is_closing()

    def _send_head(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""


def _mistake(error: httptools.HttpParserError) -> RequestError:
    """What the parser found, as one of our own."""
    raised = error.__context__
    if isinstance(raised, RequestError):
        return raised
    if "Content-Length overflow" in str(error):
        return RequestTooLargeError("the body is larger than any number that a server counts with")
    return MalformedRequestError(f"the request is not HTTP/1.1: {error}")
