"""How an answer's parts reach a connection."""

from typing import Any, cast

import pytest

from embedding_runtime.api.protocol import Joining

HEAD, BODY = b"HTTP/1.1 200 OK\r\n\r\n", b"{}"


class _Transport:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.sent.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


class _Cycle:
    """As much of uvicorn's as a transport looks at."""

    def __init__(self) -> None:
        self.transport, self.response_started = _Transport(), False


@pytest.fixture
def cycle() -> _Cycle:
    return _Cycle()


@pytest.fixture
def joining(cycle: _Cycle) -> Joining:
    return Joining(cast(Any, cycle))


def test_the_head_goes_out_with_the_body(cycle: _Cycle, joining: Joining) -> None:
    cycle.response_started = True
    joining.write(HEAD)
    assert not cycle.transport.sent
    joining.write(BODY)
    joining.write(b"more")
    assert cycle.transport.sent == [HEAD + BODY, b"more"]
    assert not joining.is_closing()


def test_an_answer_without_a_body_is_its_head(cycle: _Cycle, joining: Joining) -> None:
    cycle.response_started = True
    joining.write(HEAD)
    joining.write(b"")
    assert cycle.transport.sent == [HEAD]


def test_what_goes_before_an_answer_does_not_wait(cycle: _Cycle, joining: Joining) -> None:
    joining.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert len(cycle.transport.sent) == 1
    cycle.response_started = True
    joining.write(HEAD)
    assert len(cycle.transport.sent) == 1


def test_a_large_body_is_not_copied(cycle: _Cycle, joining: Joining) -> None:
    cycle.response_started = True
    body = bytes(1_000_000)
    joining.write(HEAD)
    joining.write(body)
    assert cycle.transport.sent == [HEAD, body]
    assert cycle.transport.sent[1] is body


def test_a_head_that_waits_is_sent_before_the_connection_is_closed(cycle: _Cycle, joining: Joining) -> None:
    cycle.response_started = True
    joining.write(HEAD)
    joining.close()
    assert cycle.transport.sent == [HEAD]
    assert joining.is_closing()
