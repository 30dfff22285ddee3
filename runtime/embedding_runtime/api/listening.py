"""The listening socket, bound once by the supervisor and shared by every HTTP process."""

import os
import socket

from embedding_runtime.errors import AddressInUseError

_BACKLOG = 2048


def listen(host: str, port: int, variable: str = "API_PORT") -> socket.socket:
    """A socket that listens on the address (port 0: any free one); `variable` is what set the port.

    Raises AddressInUseError that names the address and the variables that set it.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        # Connections inherit it. asyncio sets it only on sockets that it opened itself, and without it the
        # body of an answer waits for the client's delayed acknowledgement of the head: 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        # A resolver's error numbers are not the system's.
        own = isinstance(error, socket.gaierror) or error.errno is None
        why = error.strerror if own else os.strerror(error.errno or 0)
        raise AddressInUseError(f"cannot listen on {host}:{port}: {why} (API_HOST, {variable})") from error
