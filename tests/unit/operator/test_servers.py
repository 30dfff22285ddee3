"""How a pod's server is asked: over real HTTP, never for long, and never followed elsewhere."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from embedding_operator.lookups.servers import HttpServers
from embedding_operator.readiness import Report, Silence, Told

LOADING = b'{"status": "loading", "reason": "Loading", "message": "a/b is loading"}'

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def said(answer: Answer, *, timeout: float = 2.0) -> tuple[Told, bytes]:
    """What a server that answers like this is found to say, and what it was asked."""

    async def run() -> tuple[Told, bytes]:
        asked, handled = bytearray(), asyncio.Event()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.extend(await reader.readuntil(b"\r\n\r\n"))
            with suppress(ConnectionError):  # the other side has heard enough
                await answer(writer)
                writer.close()
                await writer.wait_closed()
            handled.set()

        servers, server = HttpServers(timeout), await asyncio.start_server(handle, "127.0.0.1", 0)
        try:
            async with server:
                told = await servers.readiness("127.0.0.1", server.sockets[0].getsockname()[1])
                await handled.wait()
                return told, bytes(asked)
        finally:
            await servers.close()

    return asyncio.run(run())


def body(text: bytes, head: str = "503 Service Unavailable") -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(text)}\r\n\r\n".encode())
        writer.write(text[:7])
        await writer.drain()
        writer.write(text[7:])
        await writer.drain()

    return answer


def test_the_servers_own_words_are_returned() -> None:
    told, asked = said(body(LOADING))
    assert told == Report("loading", "Loading", "a/b is loading")
    assert asked.startswith(b"GET /health/ready HTTP/1.1\r\n")


def test_a_server_that_does_not_answer_costs_no_more_than_the_timeout() -> None:
    async def never(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)

    told, _ = said(never, timeout=0.05)
    assert told == Silence("no answer within 0 s")


def test_a_redirection_is_not_followed() -> None:
    told, _ = said(body(b"", "302 Found\r\nLocation: http://metadata.example/"))
    assert isinstance(told, Silence)
    assert "302" in told.words


def test_an_answer_without_end_is_cut_off() -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    told, _ = said(endless)
    assert told == Silence("it answers with HTTP 200 and no word that is known")


@pytest.mark.parametrize(("host", "words"), [("127.0.0.1", "Connection refused"), ("::1", "")])
def test_nobody_there_is_said_without_the_address(host: str, words: str) -> None:
    async def run() -> Told:
        servers = HttpServers()
        try:
            return await servers.readiness(host, 1)
        finally:
            await servers.close()

    told = asyncio.run(run())
    assert isinstance(told, Silence)
    assert words in told.words
    assert host not in told.words
