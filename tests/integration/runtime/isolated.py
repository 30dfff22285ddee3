"""A session with a server in a network namespace without routes, run as a program: prints JSON.

    unshare --net python -m tests.integration.runtime.isolated HF_HOME NAME=VALUE...

The kernel counts every attempt to reach an address that is not there, so that nothing goes unnoticed.
"""

import fcntl
import json
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from tests.integration.runtime.server import EMBEDDER, RERANKER, environment, serving, wait_for

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def session(home: Path, variables: dict[str, str]) -> dict[str, Any]:
    """What a server over the models in `home` answers, and what of the network it wanted."""
    _loopback_up()
    answers: dict[str, Any] = {}
    with serving(environment(home, **variables), home / "log") as server:
        wait_for(lambda: server.health()["status"] in ("ready", "load_failed"), "an end of the loading")
        answers["health"] = server.health()["status"]
        answers["models"] = server.client.get("/models").json()
        answers["docs"] = server.client.get("/docs").status_code
        for name, path, body in (
            ("default", "/embed", {"input": "cat"}),
            ("on first use", "/rerank", {"query": "cat", "documents": ["dog"], "model": RERANKER}),
            ("well known, not cached", "/embed", {"input": "cat", "model": "BAAI/bge-small-en-v1.5"}),
            ("unknown", "/embed", {"input": "cat", "model": "nobody/nothing"}),
            ("another revision", "/embed", {"input": "cat", "model": f"{EMBEDDER}@{'f' * 40}"}),
        ):
            answers[name] = server.client.post(path, json=body).status_code
        answers["exit code"] = server.stop()
    answers["attempts"] = _attempts()
    return answers


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def _attempts() -> int:
    """How often a process of this namespace asked for an address without a route."""
    names, values = (
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:")
    )
    counted = int(values[names.index("OutNoRoutes")])
    for line in Path("/proc/net/snmp6").read_text().splitlines():
        if line.startswith("Ip6OutNoRoutes"):
            counted += int(line.split()[1])
    return counted


if __name__ == "__main__":
    print(json.dumps(session(Path(sys.argv[1]), dict(pair.split("=", 1) for pair in sys.argv[2:]))))
