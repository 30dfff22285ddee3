"""A connection between an HTTP process and the engine: frames arrive whole and in order, whatever the socket
takes at once and whichever thread sends them.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_runtime.errors import InternalError, WireError
from embedding_runtime.service import wire
from embedding_runtime.service.link import Link

LARGE = 4 << 20
THREADS, FRAMES = 4, 50


class End:
    """One end that remembers what it hears."""

    def __init__(self, fail: bool = False) -> None:
        self.link = Link()
        self.heard: list[wire.Frame] = []
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._fail = fail
        self.link.attend(self._hear, self.ended.set_result)

    def _hear(self, frame: wire.Frame) -> None:
        if self._fail:
            raise WireError("not what was asked for")
        self.heard.append(frame)


async def _connected(path: Path, *, failing: bool = False) -> tuple[End, End, asyncio.Server]:
    """The near end, the far end."""
    loop, far = asyncio.get_running_loop(), list[End]()

    def accept() -> Link:
        far.append(End(failing))
        return far[0].link

    server = await loop.create_unix_server(accept, path)
    near = End()
    await loop.create_unix_connection(lambda: near.link, str(path))
    await _until(lambda: bool(far))
    return near, far[0], server


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  what is waited for is another thread's or the socket's
        await asyncio.sleep(0.001)


def _run(check: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await check()

    asyncio.run(bounded())


def _frame(request: int, size: int = 0) -> bytes:
    return wire.error(request, InternalError("x" * size))


@given(st.lists(st.integers(0, 300), max_size=6), st.integers(1, 64))
def test_frames_come_whole_out_of_pieces_of_any_size(sizes: list[int], piece: int) -> None:
    data = b"".join(_frame(request, size) for request, size in enumerate(sizes))
    frames = wire.Frames()
    found = [frame for at in range(0, len(data), piece) for frame in frames.read(data[at : at + piece])]
    assert [(frame.request, len(wire.parse_error(frame.payload).message)) for frame in found] == list(
        enumerate(sizes)
    )


def test_frames_of_many_threads_arrive_whole_though_the_socket_is_full(tmp_path: Path) -> None:
    async def check() -> None:
        near, far, server = await _connected(tmp_path / "s")

        def send(first: int) -> None:
            for request in range(first, first + FRAMES):
                near.link.send(_frame(request, LARGE // 64))

        threads = [threading.Thread(target=send, args=(n * FRAMES,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        await _until(lambda: len(far.heard) >= THREADS * FRAMES)
        for thread in threads:
            thread.join()
        order = [frame.request for frame in far.heard]
        for n in range(THREADS):
            assert [r for r in order if r // FRAMES == n] == list(range(n * FRAMES, (n + 1) * FRAMES))
        # Nothing waits any more, so the next one goes out at once again.
        near.link.send(_frame(THREADS * FRAMES))
        await _until(lambda: len(far.heard) > THREADS * FRAMES)
        near.link.close()
        server.close()

    _run(check)


def test_an_end_that_does_not_read_its_answers_is_not_read_either(tmp_path: Path) -> None:
    def reading(end: End) -> bool:
        return end.link._transport is not None and end.link._transport.is_reading()

    async def check() -> None:
        near, far, server = await _connected(tmp_path / "s")
        transport = far.link._transport
        assert transport is not None
        transport.pause_reading()
        near.link.send(_frame(1, LARGE))
        await asyncio.sleep(0)  # what the socket did not take goes to the loop
        assert not reading(near)
        transport.resume_reading()
        await _until(lambda: bool(far.heard) and reading(near))
        near.link.close()
        server.close()

    _run(check)


def test_an_end_that_is_gone_is_told_once_and_sending_to_it_is_no_error(tmp_path: Path) -> None:
    async def check() -> None:
        near, far, server = await _connected(tmp_path / "s")
        far.link.close()
        near.link.send(_frame(1, LARGE))
        assert await near.ended is None or isinstance(near.ended.result(), ConnectionError)
        near.link.send(_frame(2))
        server.close()

    _run(check)


def test_a_frame_that_nobody_understands_ends_the_connection(tmp_path: Path) -> None:
    async def check() -> None:
        near, far, server = await _connected(tmp_path / "s", failing=True)
        near.link.send(_frame(1))
        with pytest.raises(WireError, match="not what was asked for"):
            raise await far.ended or AssertionError
        await near.ended
        server.close()

    _run(check)
