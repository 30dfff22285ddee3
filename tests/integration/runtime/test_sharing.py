"""How the HTTP processes of a real server share what comes."""

import socket
from collections import Counter
from pathlib import Path

from tests.integration.runtime.server import environment, serving

_WORKERS, _CONNECTIONS = 4, 8
_ESTABLISHED = "01"


def _accepted(port: int) -> dict[int, str]:
    """The server's end of each connection to a port: the client's port, and the socket's name in /proc."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        int(row[2].partition(":")[2], 16): f"socket:[{row[9]}]"
        for row in rows
        if row[3] == _ESTABLISHED and int(row[1].partition(":")[2], 16) == port
    }


def _sockets(pid: int) -> set[str]:
    return {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}


def test_no_http_process_gets_most_of_the_connections_that_come_at_once(tmp_path: Path) -> None:
    variables = environment(tmp_path, API_WORKERS=str(_WORKERS), DEFAULT_RERANKING_MODEL="")
    with serving(variables, tmp_path / "log") as server:
        server.wait_until("ready")
        port = server.client.base_url.port
        assert port
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(_CONNECTIONS)]
        for client in clients:
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n")
        for client in clients:
            assert client.recv(15) == b"HTTP/1.1 200 OK"
        accepted = _accepted(port)
        held = {pid: _sockets(pid) for pid in server.workers()}
        shares = Counter(
            pid
            for client in clients
            for pid, sockets in held.items()
            if accepted[client.getsockname()[1]] in sockets
        )
        for client in clients:
            client.close()
    assert shares.total() == _CONNECTIONS
    # Two each; on a machine so busy that a process does not wake up in time another one gets its turn.
    assert max(shares.values()) <= _CONNECTIONS // 2, shares
