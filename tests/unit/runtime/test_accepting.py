"""Who takes a connection: the process that has the fewest, and another one where that does not come to it."""

import asyncio
import socket
from collections.abc import Callable, Coroutine

import pytest

from embedding_runtime.api.accepting import Acceptor, Occupancy
from embedding_runtime.api.listening import listen

PROCESSES = 4


class _Kept(asyncio.Protocol):
    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()


class _Server:
    """Acceptors as processes have them: each with its own file descriptor of the one socket."""

    def __init__(self, awake: range = range(PROCESSES)) -> None:
        self.occupancy = Occupancy(PROCESSES)
        self._listening = listen("127.0.0.1", 0)
        self._own = {process: self._listening.dup() for process in awake}
        self._acceptors = [
            Acceptor(own, self.occupancy, process, _Kept) for process, own in self._own.items()
        ]

    @property
    def counts(self) -> list[int]:
        return [self.occupancy[process] for process in range(PROCESSES)]

    def connected(self, count: int) -> list[socket.socket]:
        """So many connections at once."""
        return [socket.create_connection(self._listening.getsockname()) for _ in range(count)]

    async def until(self, connections: int) -> None:
        """Wait until there are so many."""
        async with asyncio.timeout(10):
            while sum(self.counts) != connections:  # noqa: ASYNC110  other processes write it
                await asyncio.sleep(0.001)

    def close(self) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        for bound in (self._listening, *self._own.values()):
            bound.close()


def _run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(test())


def _end(server: _Server, clients: list[socket.socket]) -> None:
    for client in clients:
        client.close()
    server.close()


def test_connections_that_come_at_once_are_shared_evenly() -> None:
    async def test() -> None:
        server = _Server()
        clients = server.connected(2 * PROCESSES)
        await server.until(len(clients))
        assert server.counts == [2] * PROCESSES
        _end(server, clients)

    _run(test)


def test_who_has_lost_connections_takes_the_next_ones() -> None:
    async def test() -> None:
        server = _Server()
        clients = server.connected(PROCESSES)
        await server.until(PROCESSES)
        for client in clients[:2]:
            client.close()
        await server.until(PROCESSES - 2)
        clients += server.connected(2)
        await server.until(PROCESSES)
        assert server.counts == [1] * PROCESSES
        _end(server, clients)

    _run(test)


@pytest.mark.parametrize("awake", [range(1), range(1, PROCESSES)])
def test_connections_of_a_process_that_does_not_accept_are_taken_by_others(awake: range) -> None:
    async def test() -> None:
        server = _Server(awake)
        clients = server.connected(6)
        await server.until(6)
        assert max(server.counts) - min(server.occupancy[process] for process in awake) <= 1
        _end(server, clients)

    _run(test)


def test_a_process_that_starts_anew_has_none() -> None:
    async def test() -> None:
        occupancy = Occupancy(PROCESSES)
        occupancy[1] = 5
        with listen("127.0.0.1", 0) as listening:
            Acceptor(listening, occupancy, 1, _Kept).close()
        assert (occupancy[1], occupancy.fewest) == (0, 0)

    _run(test)


def test_nothing_is_accepted_after_the_end() -> None:
    async def test() -> None:
        server = _Server()
        server.connected(1)[0].close()
        server.close()
        await asyncio.sleep(0)
        assert server.counts == [0] * PROCESSES

    _run(test)
