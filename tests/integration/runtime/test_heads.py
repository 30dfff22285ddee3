"""Requests as bytes on a connection: heads that HTTP libraries of other languages send, and hostile ones."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.runtime.server import COMMIT, EMBEDDER, Server, environment, serving
from tests.unit.runtime import made

_BODY = b'{"input": "red cat"}'
_HEAD = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
# What java.net.http sends in front of every request of a client that would speak HTTP/2.
_UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
_WHOLE = b"Content-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n5\r\n%b\r\nF\r\n%b\r\n0\r\n\r\n" % (_BODY[:5], _BODY[5:])
_LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ready server of one HTTP process."""
    home: Path = tmp_path_factory.mktemp("one")
    made.cache(home, EMBEDDER, COMMIT, made.write_embedder(home / "embedder"))
    with serving(environment(home, DEFAULT_EMBEDDING_MODEL=EMBEDDER), home / "log") as running:
        running.wait_until("ready")
        yield running


def _connection(server: Server) -> "closing[socket.socket]":
    address = (server.client.base_url.host, server.client.base_url.port)
    return closing(socket.create_connection(address, timeout=10))


def _answers(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Status and body of so many answers."""
    reader = connection.makefile("rb")
    found = []
    for _ in range(count):
        status = int(reader.readline().split()[1])
        headers = dict(line.rstrip().split(b": ", 1) for line in iter(reader.readline, b"\r\n"))
        found.append((status, reader.read(int(headers[b"content-length"]))))
    return found


@pytest.mark.parametrize("body", [_WHOLE, _CHUNKED])
@pytest.mark.parametrize("cut", [10, 60, 190, -3])
def test_a_request_that_offers_to_upgrade_is_answered_as_what_it_is(
    server: Server, body: bytes, cut: int
) -> None:
    request = _HEAD + _UPGRADE + body
    with _connection(server) as connection:
        expected = None
        for _ in range(2):
            connection.sendall(request[:cut])
            connection.sendall(request[cut:] + _LIVE + _UPGRADE + b"\r\n" + request)
            (status, first), (alive, _), (again, second) = _answers(connection, 3)
            assert (status, alive, again) == (200, 200, 200)
            assert first == second
            assert expected in (None, first)
            expected = first
    assert "pgrade" not in server.log()


def test_pieces_of_a_byte_are_a_request(server: Server) -> None:
    with _connection(server) as connection:
        for byte in _HEAD + _UPGRADE + _WHOLE:
            connection.sendall(bytes([byte]))
        ((status, _),) = _answers(connection, 1)
        assert status == 200


@pytest.mark.parametrize("start", [b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Filler: ", b"GET /"])
def test_a_head_without_end_is_refused(server: Server, start: bytes) -> None:
    with _connection(server) as connection:
        connection.sendall(start)
        with pytest.raises(OSError):  # noqa: PT011  a reset or a broken pipe
            connection.sendall(b"a" * 50_000_000)
    assert server.client.get("/health/live").status_code == 200


def test_a_head_of_many_kilobytes_is_taken(server: Server) -> None:
    headers = {f"X-Filler-{n}": "a" * 1000 for n in range(50)}
    assert server.client.get("/health/live", headers=headers).status_code == 200
    assert server.client.get("/health/live").status_code == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        _HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        _HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        _HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /health/live HTTP/1.1\nHost: x\n\n",
    ],
)
def test_what_two_servers_could_read_differently_is_refused(server: Server, request_bytes: bytes) -> None:
    with _connection(server) as connection:
        connection.sendall(request_bytes)
        ((status, body),) = _answers(connection, 1)
        assert status == 400
        assert json.loads(body)["error"]["code"] == "MalformedRequest"


def test_a_request_without_host_is_told_so(server: Server) -> None:
    with _connection(server) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\n\r\n")
        ((status, body),) = _answers(connection, 1)
        assert (status, json.loads(body)["error"]["param"]) == (400, "Host")
        assert connection.recv(10) == b""
