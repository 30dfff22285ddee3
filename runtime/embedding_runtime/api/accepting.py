"""Which HTTP process takes a connection that comes: the one that has the fewest.

All of them wait for the same listening socket. asyncio's own server takes all that waits there as soon as it
wakes up, so that eight connections that a client opens at once mostly end up in one process, and stay there.
SO_REUSEPORT would deal them out by chance, and lose those that wait for a process which dies.
"""

import asyncio
import mmap
import socket
from collections.abc import Callable

from embedding_runtime.telemetry import logger

_log = logger("accepting")

# For how long a process that has more than another leaves a connection to it: a few wake-ups of a process on
# a busy machine. Where the other one is dead or does not come to it, that is what a new connection waits.
_POLITE_SECONDS = 0.005
# How soon one is tried again where the system has no room for another connection; as asyncio does.
_EXHAUSTED_SECONDS = 1.0

# Of a C int, which is what the counts are.
_COUNT_BYTES = 4

MakeProtocol = Callable[[Callable[[], None]], asyncio.Protocol]


class Occupancy:
    """The number of connections of each HTTP process, in memory that they share; made before they are forked.

    Each process writes its own number only. That of one that died stays until its successor starts.
    """

    def __init__(self, processes: int) -> None:
        self._counts = memoryview(mmap.mmap(-1, _COUNT_BYTES * processes)).cast("i")

    def __getitem__(self, process: int) -> int:
        return self._counts[process]

    def __setitem__(self, process: int, connections: int) -> None:
        self._counts[process] = connections

    @property
    def fewest(self) -> int:
        """The number of the process that has the fewest."""
        return min(self._counts)


class Acceptor:
    """Accepts connections for one HTTP process, from when it is made until `close`.

    `make` makes the protocol of a connection; it is given what that has to call when the connection is lost.
    """

    def __init__(
        self, listening: socket.socket, occupancy: Occupancy, process: int, make: MakeProtocol
    ) -> None:
        self._listening, self._occupancy, self._process, self._make = listening, occupancy, process, make
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.TimerHandle | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        occupancy[process] = 0
        listening.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Accept nothing more. What was accepted goes on."""
        self._loop.remove_reader(self._listening)
        if self._waiting is not None:
            self._waiting.cancel()

    def _listen(self) -> None:
        self._waiting = None
        self._loop.add_reader(self._listening, self._look)

    def _look(self) -> None:
        """A connection waits, or another process has it by now."""
        if self._occupancy[self._process] <= self._occupancy.fewest:
            self._accept()
        else:
            self._pause(_POLITE_SECONDS, self._accept)

    def _pause(self, seconds: float, then: Callable[[], None] = lambda: None) -> None:
        self._loop.remove_reader(self._listening)

        def go_on() -> None:
            self._listen()
            then()

        self._waiting = self._loop.call_later(seconds, go_on)

    def _accept(self) -> None:
        """Take one connection, if it is still there: the next one may be another process's."""
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            _log.error("cannot accept connections", error=str(error))
            self._pause(_EXHAUSTED_SECONDS)
            return
        self._occupancy[self._process] += 1
        task = self._loop.create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        gone = False

        def leave() -> None:
            nonlocal gone
            if not gone:
                gone = True
                self._occupancy[self._process] -= 1

        try:
            connection.setblocking(False)
            await self._loop.connect_accepted_socket(lambda: self._make(leave), connection)
        except Exception:
            _log.exception("a connection that could not be set up")
            connection.close()
            leave()
