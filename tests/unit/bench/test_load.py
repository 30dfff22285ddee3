"""The client of the benchmarks, against a server that does what it is told to."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.load import Address, Closed, Open, Request, drive, get, post

Answer = Callable[[bytes], tuple[int, dict[str, str], list[bytes]]]


@contextmanager
def serving(answer: Answer, patience: float | None = None) -> Iterator[Address]:
    """A server that sends what `answer` makes of a body: status, headers, and the pieces of the content.

    It closes connections that are idle for longer than `patience`, in seconds.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = patience

        def do_POST(self) -> None:
            status, headers, pieces = answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            for piece in pieces:
                self.wfile.write(piece)
                self.wfile.flush()
                time.sleep(0.01 if len(pieces) > 1 else 0)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield ("127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def whole(content: bytes) -> tuple[int, dict[str, str], list[bytes]]:
    """An answer in one piece."""
    return 200, {"Content-Length": str(len(content))}, [content]


def numbered(count: int) -> list[Request]:
    """Requests that can be told apart."""
    return [post("/embed", {"n": number}, 2) for number in range(count)]


def test_closed_clients_send_every_request_once() -> None:
    seen: list[bytes] = []

    def answer(body: bytes) -> tuple[int, dict[str, str], list[bytes]]:
        seen.append(body)
        return whole(b"[]")

    with serving(answer) as address:
        (run,) = drive(address, Closed(numbered(20), 4))
    assert sorted(seen) == sorted(b'{"n": %d}' % number for number in range(20))
    assert run.texts == 40
    assert len(run.latencies) == 20
    assert run.ended > run.started


def test_no_client_sends_before_its_last_request_is_answered() -> None:
    inside, most = threading.Semaphore(0), []

    def answer(_: bytes) -> tuple[int, dict[str, str], list[bytes]]:
        inside.release()
        time.sleep(0.01)
        most.append(inside._value)
        inside.acquire()
        return whole(b"[]")

    with serving(answer) as address:
        drive(address, Closed(numbered(30), 3))
    assert max(most) <= 3


def test_answers_come_whole_or_chunked_and_in_pieces() -> None:
    content = b"x" * 300_000

    def in_chunks(_: bytes) -> tuple[int, dict[str, str], list[bytes]]:
        chunk = b"%x\r\n%s\r\n" % (len(content), content)
        return 200, {"Transfer-Encoding": "chunked"}, [chunk[:7], chunk[7:-3], chunk[-3:], b"0\r", b"\n\r\n"]

    for answer in (lambda _: (*whole(content)[:2], [content[:9], content[9:]]), in_chunks):
        with serving(answer) as address:
            (run,) = drive(address, Closed(numbered(3), 1))
        assert len(run.latencies) == 3


def test_a_late_server_does_not_put_off_the_next_arrival() -> None:
    """Latency counts from when a request should have been sent: one slow answer shows in all behind it."""
    slow, one_at_a_time = itertools.chain([0.3], itertools.repeat(0.0)), threading.Lock()

    def answer(_: bytes) -> tuple[int, dict[str, str], list[bytes]]:
        with one_at_a_time:
            time.sleep(next(slow))
        return whole(b"[]")

    with serving(answer) as address:
        (run,) = drive(address, Open([post("/embed", {}, 1)], itertools.repeat(0.02), seconds=0.21))
    assert len(run.latencies) == 10
    assert sum(latency > 0.1 for latency in run.latencies) >= 8


def test_arrivals_go_on_until_the_closed_clients_are_done() -> None:
    def answer(body: bytes) -> tuple[int, dict[str, str], list[bytes]]:
        time.sleep(0.05 if b"n" in body else 0)
        return whole(b"[]")

    with serving(answer) as address:
        closed, opened = drive(
            address, Closed(numbered(4), 1), Open([post("/embed", {}, 1)], itertools.repeat(0.01))
        )
    assert closed.texts == 8
    assert opened.texts >= 10


def test_a_refusal_is_asked_again_when_the_server_says_so() -> None:
    answers = itertools.chain([(429, {"Retry-After": "0.2", "Content-Length": "0"}, [b""])], [])

    def answer(_: bytes) -> tuple[int, dict[str, str], list[bytes]]:
        return next(answers, whole(b"[]"))

    with serving(answer) as address:
        (run,) = drive(address, Closed(numbered(3), 1))
    assert run.refused == {429: 1}
    assert run.texts == 6
    assert max(run.latencies) >= 0.2


def test_any_other_status_ends_the_measurement() -> None:
    with (
        serving(lambda _: (500, {"Content-Length": "0"}, [b""])) as address,
        pytest.raises(RuntimeError, match="answered 500"),
    ):
        drive(address, Closed(numbered(1), 1))


def test_requests_are_valid_http() -> None:
    assert get("/health").wire == b"GET /health HTTP/1.1\r\nHost: bench\r\n\r\n"
    assert post("/embed", {"input": "é"}, 1, {"Accept": "a/b"}).wire.endswith(
        b'Content-Length: 19\r\nAccept: a/b\r\n\r\n{"input": "\\u00e9"}'
    )


def test_a_connection_that_the_server_has_closed_meanwhile_is_not_used_again() -> None:
    gaps = itertools.chain([0.0], itertools.repeat(0.2))
    with serving(lambda _: whole(b"[]"), patience=0.05) as address:
        (run,) = drive(address, Open(numbered(1), gaps, 0.5))
    assert len(run.latencies) == 3
