"""What is measured of servers: one function for each section of the results.

Every section goes round all servers and the raw engine once in a repeat, in an order that turns, so that
what else the machine does meets all of them alike. Ratios inside a section hold; two runs do not compare.
"""

from __future__ import annotations

import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import corpus
from bench.corpus import Texts
from bench.figures import Figure, milliseconds, repeated
from bench.load import Closed, Open, Request, Run, drive, get
from bench.raw import ONE_BY_ONE, Raw, plans
from bench.running import Peer, Running, running

Turn = Callable[[], None]
Result = dict[str, object]

POINTS = {"1x1": (1, 1, 96), "8x1": (8, 1, 192), "16x8": (16, 8, 512), "4x32": (4, 32, 512)}
"""Clients x texts in a request, and how many texts in all: the same for every server and the raw engine. The
clients go round them for so many seconds: the last batches of a short run are small.
"""
POINT_SECONDS = 3.0

BULK_CLIENTS, BULK_TEXTS, BULK_REQUESTS = 2, 256, 5
SINGLES, SINGLES_PER_SECOND, HEALTH_SECONDS = 200, 5.0, 0.05
MIXED_SECONDS, ALONE_SECONDS = 10.0, 6.0
IDLE_SECONDS = 5.0
TEXT_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CLIENT_COUNTS = (1, 2, 4, 8, 16, 32)
LENGTHS = (16, 32, 64, 128, 256, 512)
SCALED_LENGTH, SCALED_TEXTS, CLIENT_TEXTS, LENGTH_TEXTS, SCALED_TOKENS = 64, 64, 4, 8, 2048
TEXTS, CLIENTS, TOKENS = "texts in a request", "clients", "tokens in a text"
LAYERS, HIDDEN = 6, 384


@dataclass(frozen=True)
class Bench:
    """What all sections share. `turn` is entered for each repeat, and may wait for other benchmarks."""

    servers: Sequence[Running]
    engines: Sequence[Raw]
    texts: Texts
    repeats: int
    rounds: Callable[[int], Iterator[int]]

    def turned(self, repeat: int) -> list[Running]:
        """The servers, each repeat beginning with another one."""
        at = repeat % len(self.servers)
        return [*self.servers[at:], *self.servers[:at]]


def split(texts: Sequence[str], each: int, make: Callable[[Sequence[str]], Request]) -> list[Request]:
    """Requests of `each` texts."""
    return [make(texts[at : at + each]) for at in range(0, len(texts), each)]


def arrivals(seed: int) -> Iterator[float]:
    """Gaps of a Poisson process; the same for every server."""
    chance = random.Random(seed)
    while True:
        yield chance.expovariate(SINGLES_PER_SECOND)


def every(seconds: float) -> Iterator[float]:
    """Even gaps."""
    while True:
        yield seconds


def load(bench: Bench) -> Result:
    """Throughput and latency of closed loops, and the raw engines on the same texts."""
    runs: dict[tuple[str, str], list[Run]] = defaultdict(list)
    spent: dict[tuple[str, str], list[float]] = defaultdict(list)
    raw: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    singles: dict[str, list[float]] = defaultdict(list)
    most = max(texts for _, _, texts in POINTS.values())
    subject = bench.texts.first(most)
    ways = plans(subject.lengths)
    for repeat in bench.rounds(bench.repeats):
        for engine in bench.engines:
            engine(subject.texts, ways[ONE_BY_ONE])  # see _awake
            for way, batches in ways.items():
                taken = engine(subject.texts, batches)
                raw[engine.name][way].append(sum(map(len, batches)) / sum(taken))
                if way == ONE_BY_ONE:
                    singles[engine.name] += taken
        for server in bench.turned(repeat):
            _awake(server, subject.texts)
            for point, (clients, each, count) in POINTS.items():
                requests = split(subject.texts[:count], each, server.request)
                before = server.cpu_seconds()
                (run,) = drive(server.address, Closed(requests, clients, POINT_SECONDS))
                runs[server.peer.name, point].append(run)
                spent[server.peer.name, point].append((server.cpu_seconds() - before) / run.texts)
    return {
        "raw": {
            name: {
                "best_texts_per_second": max(
                    (repeated(rates) for rates in found.values()),
                    key=lambda figure: _number(figure["median"]),
                ),
                "texts_per_second": {way: repeated(rates) for way, rates in found.items()},
                "one_by_one_ms": milliseconds(singles[name]),
            }
            for name, found in raw.items()
        },
        "servers": {
            server.peer.name: {
                point: _closed(runs[server.peer.name, point])
                | {"cpu_ms_per_text": repeated([s * 1000 for s in spent[server.peer.name, point]], 2)}
                for point in POINTS
            }
            for server in bench.servers
        },
    }


def _awake(server: Running, texts: Sequence[str]) -> None:
    """Ask a server that was idle while the others had their turn: after two minutes without work the first
    hundred texts of every server here took up to a quarter longer.
    """
    clients, each, count = POINTS["1x1"]
    drive(server.address, Closed(split(texts[:count], each, server.request), clients))


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return value


def _closed(runs: Sequence[Run]) -> Figure:
    return {
        "texts_per_second": repeated([run.texts_per_second for run in runs]),
        "latency_ms": milliseconds([latency for run in runs for latency in run.latencies]),
        "refused": sum(sum(run.refused.values()) for run in runs),
        "client_cpu_share": round(
            sum(run.cpu for run in runs) / sum(run.seconds for run in runs) / (os.cpu_count() or 1), 4
        ),
    }


def mixed(bench: Bench) -> Result:
    """Single texts that arrive by themselves, on an idle server and beside two clients with bulk."""
    found: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for repeat in bench.rounds(bench.repeats):
        for server in bench.turned(repeat):
            one, bulk = mixed_requests(server, bench.texts)
            health = Open([get(server.peer.live)], every(HEALTH_SECONDS))
            here = found[server.peer.name]
            here["idle"] += drive(server.address, Open(one, arrivals(repeat), MIXED_SECONDS))
            here["alone"] += drive(server.address, Closed(bulk, BULK_CLIENTS, ALONE_SECONDS))
            both = drive(
                server.address,
                Closed(bulk, BULK_CLIENTS, MIXED_SECONDS),
                Open(one, arrivals(repeat)),
                health,
            )
            for name, run in zip(("bulk", "singles", "health"), both, strict=True):
                here[name].append(run)
    return {name: _mixed(runs) for name, runs in found.items()}


def _mixed(runs: dict[str, list[Run]]) -> Figure:
    idle, singles, health = (
        milliseconds([latency for run in runs[kind] for latency in run.latencies])
        for kind in ("idle", "singles", "health")
    )
    shares = [
        both.texts_per_second / alone.texts_per_second
        for both, alone in zip(runs["bulk"], runs["alone"], strict=True)
    ]
    return {
        "idle_ms": idle,
        "beside_bulk_ms": singles,
        "p99_ratio": round(_number(singles["p99"]) / _number(idle["p99"]), 2),
        "bulk_alone_texts_per_second": repeated([run.texts_per_second for run in runs["alone"]]),
        "bulk_texts_per_second": repeated([run.texts_per_second for run in runs["bulk"]]),
        "bulk_share": repeated(shares, 3),
        "health_ms": health,
        "refused": sum(sum(run.refused.values()) for kind in runs.values() for run in kind),
    }


def mixed_requests(server: Running, texts: Texts) -> tuple[list[Request], list[Request]]:
    """Of single texts, and of many: both from the beginning of the corpus on."""
    count = BULK_TEXTS * BULK_REQUESTS
    many = (texts.texts * (count // len(texts.texts) + 1))[:count]
    return split(texts.texts[:SINGLES], 1, server.request), split(many, BULK_TEXTS, server.request)


def scaling(bench: Bench) -> Result:
    """Time against texts in a request, clients, and tokens in a text; the first server, the raw engine."""
    server, engine = bench.servers[0], bench.engines[0]
    taken: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in bench.rounds(bench.repeats):
        for each in TEXT_COUNTS:
            taken[TEXTS][each].append(_timed(server, max(1, SCALED_TEXTS // each), each, 1, SCALED_LENGTH))
        for clients in CLIENT_COUNTS:
            asked = max(2, SCALED_TEXTS // CLIENT_TEXTS // clients)
            taken[CLIENTS][clients].append(_timed(server, asked, CLIENT_TEXTS, clients, SCALED_LENGTH))
        for length in LENGTHS:
            asked = max(2, SCALED_TOKENS // LENGTH_TEXTS // length)
            taken[TOKENS][length].append(_timed(server, asked, LENGTH_TEXTS, 1, length))
            texts = corpus.uniform(LENGTH_TEXTS, length)
            best = min(
                sum(engine(texts, [list(range(at, at + size)) for at in range(0, LENGTH_TEXTS, size)]))
                for size in (1, max(1, min(LENGTH_TEXTS, 1024 // length)))
            )
            taken[f"{TOKENS}, raw engine"][length].append(best)
    return {
        what: {
            str(size): {
                "ms": repeated([seconds * 1000 for seconds in found[size]], 2),
                "arithmetic": round(_work(what, size) / _work(what, next(iter(found))), 3),
            }
            for size in found
        }
        for what, found in taken.items()
    }


def _timed(server: Running, asked: int, each: int, clients: int, length: int) -> float:
    """The seconds in which every client has one request of `each` texts answered, of `asked` in a row."""
    requests = split(corpus.uniform(asked * clients * each, length), each, server.request)
    return drive(server.address, Closed(requests, clients))[0].seconds / asked


def scaled_texts(what: str, size: int) -> int:
    """How many texts a time of `scaling` is for."""
    return {TEXTS: size, CLIENTS: CLIENT_TEXTS * size}.get(what, LENGTH_TEXTS)


def _work(what: str, size: int) -> float:
    """What the arithmetic says: multiplications grow with texts and clients, and with a length s as
    24 h^2 s + 4 h s^2 in each layer.
    """
    if what.startswith(TOKENS):
        return LAYERS * (24 * HIDDEN**2 * size + 4 * HIDDEN * size**2)
    return float(size)


def memory(bench: Bench) -> Result:
    """Memory and idle CPU of every server as it stands: after load, if that was measured in this run."""
    found: Result = {}
    for server in bench.servers:
        before, started = server.cpu_seconds(), time.perf_counter()
        time.sleep(IDLE_SECONDS)
        idle = (server.cpu_seconds() - before) / (time.perf_counter() - started)
        found[server.peer.name] = {
            "pss_mib": server.memory_mib(),
            "processes": server.processes(),
            "idle_cores": round(idle, 4),
        }
    return found


def starts(peer: Callable[[Path], Peer], model: Path, scratch: Path, repeats: int) -> Result:
    """Seconds from the start of the process until it is ready, the first time and the second.

    The first time nothing is prepared, and the model's files are out of the page cache.
    """
    found: dict[str, list[float]] = {"cold": [], "warm": []}
    for repeat in range(repeats):
        folder = scratch / f"start-{repeat}"
        folder.mkdir()
        _evict(model)
        for kind in found:
            with running(peer(folder), folder) as server:
                found[kind].append(server.seconds_to_ready)
    return {kind: repeated(values, 2) for kind, values in found.items()}


def _evict(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
