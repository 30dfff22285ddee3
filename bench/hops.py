"""What a request costs on its way, hop by hop: `python -m bench.hops LABEL`.

Adds to bench/results/hops.json, under the label, medians in microseconds:

- parts: each step alone, in this process, on what the real server would be given (all-MiniLM-L6-v2 and its
  tokenizer; vectors of 384 and of 1,024 dimensions), with the bytes that it hands on, and those that Python
  and numpy hold for it at most while it runs: each copy that it makes, and the one that it hands on;
- served: the real server with one HTTP process, asked over one kept connection. `client` is what the client
  waits, `http` what of it the stages that Server-Timing tells do not explain before and after the routes,
  `frames` what lies between the routes and the engine's batch beside them; and the CPU time that a request
  takes of both processes. JSON and bare numbers, with the log at `info` and at `error`;
- protocols: CPU time of an empty request by HTTP parser and event loop, uvloop where it is installed;
- live: /health/live, its p50 and p99 in milliseconds, idle and under loads that keep its process busy.
"""

from __future__ import annotations

import asyncio
import gzip
import importlib
import json
import re
import socket
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import uvicorn
from backports import zstd

from bench.footprint import REAL, process_kind, repositories, served, tree, wait_ready
from embedding_runtime.api.bodies import parse
from embedding_runtime.api.codings import compressed
from embedding_runtime.api.listening import listen
from embedding_runtime.api.protocol import HttpProtocol
from embedding_runtime.api.schemas import EmbedRequest
from embedding_runtime.api.vectors import ARROW, FORMS, JSON, OCTETS
from embedding_runtime.model.recipe import read_recipe
from embedding_runtime.service import wire
from embedding_runtime.service.answers import Embeddings
from embedding_runtime.service.state import ModelCard
from embedding_runtime.service.tokenization import Tokenization

RESULTS = Path(__file__).with_name("results") / "hops.json"
REPEATS, SECONDS_EACH = 5, 0.05
REQUESTS = {1: 100, 8: 20, 32: 8}
LOOKS, PAUSE = 200, 0.005
TEXT = (
    "The committee shall publish its reasons within thirty days, and where it refuses an application it "
    "shall say which of the conditions are not met and what the applicant may do."
)
HEADERS = {b"content-type": b"application/json"}


def microseconds(do: Callable[[], object]) -> float:
    """Return the median over the repeats of the mean of one call."""
    began = time.perf_counter()
    do()
    rounds = max(1, int(SECONDS_EACH / (time.perf_counter() - began + 1e-9)))
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        for _ in range(rounds):
            do()
        found.append((time.perf_counter() - began) / rounds * 1e6)
    return round(statistics.median(found), 1)


def held(do: Callable[[], object]) -> int:
    """Return the most bytes that one call holds at a time beyond what it was given."""
    do()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        do()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def parts(folder: Path, texts: int, width: int) -> dict[str, dict[str, float]]:
    """Return what each step takes and hands on, for a request of so many texts."""
    recipe = read_recipe(folder, "bench")
    tokenization = Tokenization(folder / recipe.tokenizer, recipe)
    some = [TEXT] * texts
    body = orjson.dumps({"input": some})
    tokens = tokenization.embed(some)
    frame = wire.submit(1, 1, tokens, "bulk")
    rows = np.random.default_rng(0).standard_normal((texts, width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    answer = wire.Rows(rows, 0.0, 0.0)
    back = wire.rows(1, answer)
    head = len(wire.cancel(1))
    card = ModelCard("m", "c", folder, recipe, "fp32", "f" * 64, "cpu", width)
    found = Embeddings(card, rows, 1)
    encoded = {name: FORMS[name.encode()].encode(found) for name in (JSON.media_type, OCTETS, ARROW)}
    plain = encoded[JSON.media_type]
    steps: dict[str, tuple[Callable[[], object], int]] = {
        "parse the body": (lambda: parse(EmbedRequest, body, HEADERS), len(body)),
        "tokenise": (lambda: tokenization.embed(some), 4 * sum(map(len, tokens))),
        "frame of tokens": (lambda: wire.submit(1, 1, tokens, "bulk"), len(frame)),
        "read it": (lambda: wire.parse_submit(frame[head:]), len(frame)),
        "frame of rows": (lambda: wire.rows(1, answer), len(back)),
        "read them": (lambda: wire.parse_rows(back[head:]), len(back)),
        "as JSON": (lambda: JSON.encode(found), len(plain)),
        "as octets": (lambda: FORMS[OCTETS.encode()].encode(found), len(encoded[OCTETS])),
        "as Arrow": (lambda: FORMS[ARROW.encode()].encode(found), len(encoded[ARROW])),
        "JSON by gzip": (lambda: compressed(plain, b"gzip"), len(compressed(plain, b"gzip")[0])),
        "JSON by zstd": (lambda: compressed(plain, b"zstd"), len(compressed(plain, b"zstd")[0])),
        "JSON by zlib's gzip": (lambda: gzip.compress(plain, 1), len(gzip.compress(plain, 1))),
        "numbers by zstd": (
            lambda: zstd.compress(encoded[OCTETS], 1),
            len(zstd.compress(encoded[OCTETS], 1)),
        ),
    }
    return {
        name: {"us": microseconds(do), "bytes": size, "held_bytes": held(do)}
        for name, (do, size) in steps.items()
    }


def on_cpu(root: int) -> dict[str, float]:
    """Return the CPU seconds of each kind of process so far; exact, unlike the ticks of /proc/PID/stat."""
    found: dict[str, float] = {}
    for pid in tree(root):
        spent = sum(
            int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
        )
        found[process_kind(pid)] = found.get(process_kind(pid), 0.0) + spent / 1e9
    return found


class Connection:
    """A client of next to no cost: prepared bytes over one kept connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb")

    def ask(self, request: bytes) -> dict[bytes, bytes]:
        """Send it; the headers of the answer, which must be a success."""
        self._socket.sendall(request)
        status = self._reader.readline()
        assert b" 200 " in status, status
        headers = dict(line.rstrip().lower().split(b": ", 1) for line in iter(self._reader.readline, b"\r\n"))
        self._reader.read(int(headers[b"content-length"]))
        return headers

    def close(self) -> None:
        """Close it."""
        self._reader.close()
        self._socket.close()


def request_of(texts: int, accept: str) -> bytes:
    """Return an embedding request as bytes."""
    body = orjson.dumps({"input": [TEXT] * texts})
    return (
        b"POST /embed HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nAccept: %b\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (accept.encode(), len(body), body)
    )


def asked(port: int, root: int, texts: int, accept: str) -> dict[str, float]:
    """Return the hops of one kind of request, over the real server."""
    request = request_of(texts, accept)
    seen: list[dict[str, float]] = []
    with closing(Connection(port)) as connection:
        for _ in range(5):
            connection.ask(request)
        before = on_cpu(root)
        for _ in range(REQUESTS[texts]):
            began = time.perf_counter()
            headers = connection.ask(request)
            waited = (time.perf_counter() - began) * 1e6
            timing = re.findall(r"(\w+);dur=([\d.]+)", headers[b"server-timing"].decode())
            stages = {name: float(value) * 1000 for name, value in timing}
            total = stages.pop("total")
            explained = sum(stages.values())
            seen.append({"client": waited, "http": waited - total, "frames": total - explained, **stages})
        spent = {kind: seconds - before[kind] for kind, seconds in on_cpu(root).items()}
    medians = {name: round(statistics.median(one[name] for one in seen), 1) for name in seen[0]}
    cpu = {f"{kind} CPU": round(value / REQUESTS[texts] * 1e6, 1) for kind, value in spent.items()}
    return medians | cpu


async def _nothing(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


def protocol_cost(http: Any, loop: str) -> float:
    """Return the CPU microseconds that an empty request takes of the event loop's thread."""
    config = uvicorn.Config(_nothing, http=http, ws="none", log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # type: ignore[assignment]
    request = b"GET / HTTP/1.1\r\nHost: bench\r\nAccept: */*\r\nUser-Agent: bench\r\n\r\n"
    count = 500

    def client(port: int) -> None:
        with closing(Connection(port)) as connection:
            for _ in range(count):
                connection.ask(request)

    async def measured() -> float:
        with listen("127.0.0.1", 0) as bound:
            serving = asyncio.create_task(server.serve([bound]))
            found = []
            for _ in range(REPEATS):
                began = time.thread_time()
                await asyncio.to_thread(client, bound.getsockname()[1])
                found.append((time.thread_time() - began) / count * 1e6)
            server.should_exit = True
            await serving
        return round(statistics.median(found), 1)

    if loop == "uvloop":
        # Not among the requirements: docs/adr/0011-http.md says why.
        return float(importlib.import_module("uvloop").run(measured()))
    return asyncio.run(measured())


def protocols() -> dict[str, float]:
    """Return the cost of each pair of HTTP parser and event loop."""
    found = {
        "h11, asyncio": protocol_cost("h11", "asyncio"),
        "httptools, asyncio": protocol_cost("httptools", "asyncio"),
        "ours over httptools, asyncio": protocol_cost(HttpProtocol, "asyncio"),
    }
    try:
        found["ours over httptools, uvloop"] = protocol_cost(HttpProtocol, "uvloop")
    except ImportError:
        print("uvloop is not installed: not measured")
    return found


def looked(port: int) -> dict[str, float]:
    """Return p50 and p99 of /health/live in milliseconds, at a steady pace."""
    request = b"GET /health/live HTTP/1.1\r\nHost: bench\r\n\r\n"
    found = []
    with closing(Connection(port)) as connection:
        for _ in range(LOOKS):
            began = time.perf_counter()
            connection.ask(request)
            found.append((time.perf_counter() - began) * 1000)
            time.sleep(PAUSE)
    quantiles = statistics.quantiles(found, n=100)
    return {"p50_ms": round(quantiles[49], 2), "p99_ms": round(quantiles[98], 2)}


@contextmanager
def busy(port: int, do: Callable[[httpx.Client], object], clients: int = 3) -> Iterator[None]:
    """Keep clients asking for the time of the block."""
    done = threading.Event()

    def run() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            while not done.is_set():
                do(client)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def streaming(client: httpx.Client) -> None:
    """Send a body of 5 MB as a slow network would."""
    body = orjson.dumps({"input": ["lorem ipsum dolor " * 280] * 1000})

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]
            time.sleep(0.005)

    headers = {"Content-Type": "application/json", "X-Request-Timeout-Ms": "2000"}
    client.post("/embed", content=pieces(), headers=headers)


def filling(client: httpx.Client) -> None:
    """Ask for more than the engine computes meanwhile."""
    client.post("/embed", json={"input": [TEXT] * 1000}, headers={"X-Request-Timeout-Ms": "3000"})


def liveness(port: int) -> dict[str, dict[str, float]]:
    """Return liveness idle and under load."""
    found = {"idle": looked(port)}
    with busy(port, streaming):
        found["3 clients stream 5 MB"] = looked(port)
    with busy(port, filling):
        found["the queue is full"] = looked(port)
    return found


def main(label: str) -> None:
    """Measure and write."""
    folder = repositories() / REAL["all-MiniLM-L6-v2"]
    result: dict[str, Any] = {"command": f"python -m bench.hops {label}", "protocols": protocols()}
    shapes = ((1, 384), (8, 384), (32, 384), (256, 1024))
    result["parts"] = {f"{texts} x {width}": parts(folder, texts, width) for texts, width in shapes}
    result["served"] = {}
    for level in ("info", "error"):
        with served(folder, "embed", 1, level) as (pid, client):
            wait_ready(client)
            port = client.base_url.port or 0
            for texts in REQUESTS:
                for accept in ("application/json", OCTETS) if level == "info" else ("application/json",):
                    name = f"{texts} texts, {accept.rpartition('/')[2]}, log {level}"
                    result["served"][name] = asked(port, pid, texts, accept)
            if level == "error":
                result["live"] = liveness(port)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(known | {label: result}, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
