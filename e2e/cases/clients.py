"""Applications that ask without a pause while something happens: ordinary keep-alive, no retries."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from e2e.cases.kubectl import Kubectl

STOP, RESULT = "/tmp/clients-stop", "/tmp/clients-result"
LONGEST_SECONDS = 240.0
LEAST_ANSWERS = 30

# Runs in the client pod. Of the six clients two make a connection for each request, two keep theirs and ask
# all the time, and two keep theirs and ask every two seconds. None looks whether a kept one was closed.
CLIENTS = f"""
import http.client, json, os, sys, threading, time
host, path, body = sys.argv[1:4]
start = time.monotonic()
answered, failed = [0, 0, 0], []
def client(kind):
    kept, pause = kind > 0, (0.05, 0.05, 2)[kind]
    connection = None
    while not os.path.exists("{STOP}") and time.monotonic() < start + {LONGEST_SECONDS}:
        began = time.monotonic()
        try:
            connection = connection or http.client.HTTPConnection(host, timeout=10)
            connection.request("POST", path, body, {{"Content-Type": "application/json"}})
            answer = connection.getresponse()
            answer.read()
            answered[kind] += 1
            if answer.status != 200:
                failed.append((round(began - start, 2), kind, answer.status))
            if not kept or answer.getheader("Connection") == "close":
                connection.close()
                connection = None
        except OSError as error:
            failed.append((round(began - start, 2), kind, repr(error)))
            connection = None
        time.sleep(pause)
threads = [threading.Thread(target=client, args=(kind,)) for kind in (0, 0, 1, 1, 2, 2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with open("{RESULT}.new", "w") as file:
    json.dump({{"answered": answered, "failed": failed}}, file)
os.rename("{RESULT}.new", "{RESULT}")
"""
# in the background of the pod, since a kubectl that runs for minutes can be cut off itself
START = f'rm -f {STOP} {RESULT}; python -c "$0" "$@" >/tmp/clients-log 2>&1 &'


@dataclass
class Asked:
    """What became of the requests, once the clients have stopped.

    answered counts them by kind: of connections of their own, of kept ones, of kept ones that ask seldom.
    failed are those that had another answer than 200, or none: seconds since the start, kind, what came.
    """

    answered: list[int] = field(default_factory=list)
    failed: list[list[object]] = field(default_factory=list)


@contextmanager
def asking(kubectl: Kubectl, host: str, path: str, body: object) -> Iterator[Asked]:
    """Have clients in the client pod ask a Service until the block ends; the result is filled in then.

    The block begins when the Service answers the client pod's node, and ends with every request answered.
    """
    text = json.dumps(body)
    url = f"http://{host}{path}"
    kubectl.wait(f"an answer of 200 from {url}", lambda: kubectl.request(url, body).status == 200, 60)
    kubectl("exec", "client", "--", "sh", "-c", START, CLIENTS, host, path, text)
    asked = Asked()
    try:
        yield asked
        time.sleep(2.5)  # for every client to have asked once more after what has happened
    finally:
        kubectl("exec", "client", "--", "touch", STOP)
        told = kubectl.wait("the clients' result", lambda: _result(kubectl), 30)
    result = json.loads(told)
    asked.answered, asked.failed = result["answered"], result["failed"]


def assert_none_failed(asked: Asked) -> None:
    """Every client asked often enough to have noticed, and nobody was turned away."""
    assert asked.failed == []
    assert min(asked.answered[:2]) > LEAST_ANSWERS, asked.answered
    assert asked.answered[2] > 2, asked.answered


def _result(kubectl: Kubectl) -> str:
    return kubectl("exec", "client", "--", "sh", "-c", f"cat {RESULT} 2>/dev/null || true")
