"""One end of the socket between an HTTP process and the engine: frames in on the event loop, frames out from
any thread.

A thread that is done with a batch sends its answer by itself. To have the event loop do it costs waking that
first, which on an idle machine takes longer than the sending.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from typing import cast

from embedding_runtime.service import wire

OnFrame = Callable[[wire.Frame], None]
OnEnd = Callable[[Exception | None], None]
OnBegin = Callable[[], None]


class Link(asyncio.Protocol):
    """Whoever attends hears of its beginning, of each frame, and once of its end: of what broke it, or None.

    All on the event loop.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._incoming = wire.Frames()
        self._on_begin: OnBegin | None = None
        self._on_frame: OnFrame | None = None
        self._on_end: OnEnd | None = None
        # Guards what follows, and the descriptor: once the connection is lost its number is another file's.
        self._sending = threading.Lock()
        self._descriptor = -1
        # What the socket did not take at once goes out by the event loop, and so does what comes after it.
        self._waiting: list[bytes] = []
        self._by_loop = False

    def attend(self, on_frame: OnFrame, on_end: OnEnd, on_begin: OnBegin | None = None) -> None:
        """Say who attends. An error that `on_frame` raises ends the connection."""
        self._on_frame, self._on_end, self._on_begin = on_frame, on_end, on_begin

    def send(self, frame: bytes) -> None:
        """Send a frame, from any thread. On a connection that has ended it is dropped: `on_end` tells."""
        with self._sending:
            if self._descriptor < 0:
                return
            if not self._by_loop:
                taken = self._take(frame)
                if taken == len(frame):
                    return
                frame, self._by_loop = frame[taken:], True
            self._waiting.append(frame)
        self._loop.call_soon_threadsafe(self._flush)

    def close(self) -> None:
        """End the connection. On the event loop."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        # So `pause_writing` and `resume_writing` say whether the transport holds anything back.
        self._transport.set_write_buffer_limits(high=0)
        self._descriptor = transport.get_extra_info("socket").fileno()
        if self._on_begin is not None:
            self._on_begin()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            for frame in self._incoming.read(data):
                if self._on_frame is not None:
                    self._on_frame(frame)
        except Exception as error:
            self._end(error)
            self.close()

    def pause_writing(self) -> None:
        """Read no more requests from an end that does not read its answers."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        with self._sending:
            self._by_loop = bool(self._waiting)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol. The descriptor is closed after this."""
        with self._sending:
            self._descriptor = -1
            self._waiting.clear()
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        told, self._on_frame, self._on_end = self._on_end, None, None
        if told is not None:
            told(error)

    def _take(self, frame: bytes) -> int:
        """How much of a frame the socket takes now."""
        try:
            return os.write(self._descriptor, frame)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            # The other end is gone, which the event loop is about to find out.
            return len(frame)

    def _flush(self) -> None:
        with self._sending:
            data = b"".join(self._waiting)
            self._waiting.clear()
            if not data or self._transport is None or self._transport.is_closing():
                return
            self._transport.write(data)
            self._by_loop = self._transport.get_write_buffer_size() > 0
