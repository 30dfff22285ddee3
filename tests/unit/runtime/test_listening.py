"""The listening socket: what accepted connections inherit, and how a taken address is told."""

import socket

import pytest

from embedding_runtime.api.listening import listen
from embedding_runtime.errors import AddressInUseError


def test_answers_are_sent_at_once_instead_of_waiting_for_an_acknowledgement() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_taken_address_is_named_with_the_variables_that_set_it() -> None:
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(AddressInUseError, match=rf"127\.0\.0\.1:{port}.*API_PORT"):
            listen("127.0.0.1", port)
