"""Everything that a user would ask of the server's speed: `python -m bench.suite [SECTION...]`.

Sections: load (throughput and latency, beside the raw engine), mixed (single texts beside bulk), scaling,
memory, start. Writes bench/results/serving/LABEL.json, and a table beside it; sections that are not measured
again are kept. `--servers` names what is measured side by side (bench/peers). BENCH_LOCK names a file that is
locked during each round, so that benchmarks take turns on a machine; its folder must exist.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bench import bars, corpus, footprint, measures, raw
from bench.measures import Bench, Result
from bench.peers import KINDS, agreement, ours
from bench.running import Absent, Running, running
from bench.table import markdown

RESULTS = Path(__file__).with_name("results") / "serving"
MODEL = footprint.REAL["all-MiniLM-L6-v2"]
SECTIONS: dict[str, Callable[[Bench], Result]] = {
    "load": measures.load,
    "mixed": measures.mixed,
    "scaling": measures.scaling,
    "memory": measures.memory,
}
START = "start"
CHECKED_TEXTS, SAME_DIRECTION = 16, 0.999


def machine(threads: int) -> dict[str, object]:
    """What was measured on."""
    information = Path("/proc/cpuinfo").read_text()
    flags = set(information.partition("flags")[2].partition("\n")[0].split())
    told = re.search(r"model name\s*:\s*(.*)", information)
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": told[1].strip() if told else platform.machine(),
        "instructions": sorted(
            flags & {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"}
        ),
        "cores": threads,
        "memory_gib": round(int(memory[1]) / 2**20) if memory else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


@contextmanager
def turn() -> Iterator[None]:
    """Hold BENCH_LOCK, where it is set."""
    name = os.environ.get("BENCH_LOCK")
    if not name:
        yield
        return
    with Path(name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def rounds(count: int) -> Iterator[int]:
    """The number of each repeat, which is measured in its turn."""
    for repeat in range(count):
        with turn():
            print(f"repeat {repeat + 1} of {count}", file=sys.stderr, flush=True)
            yield repeat


def main() -> None:
    """Measure, write, print."""
    options = _options()
    # Ended from outside, it still ends the servers that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    model = footprint.repositories() / MODEL
    threads = len(os.sched_getaffinity(0))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{options.label}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        scratch = Path(folder)
        texts = corpus.read(model / "tokenizer.json")
        servers, about = _started(options.servers, model, scratch, stack)
        needed = {bars.OURS_ENGINE}.union(*(bars.engines_of(server.peer.name) for server in servers))
        engines = [make(model, threads) for name, make in raw.ENGINES.items() if name in needed]
        results |= {
            "machine": machine(threads),
            "corpus": texts.described(),
            "model": f"{MODEL}, {threads} threads",
            "raw_engines": {engine.name: engine.version for engine in engines},
            "servers": results.get("servers", {}) | about,
        }
        for server in servers:
            told = results["servers"][server.peer.name]
            told["worst_cosine"] = _checked(server, engines[0], texts)
        bench = Bench(servers, engines, texts, options.repeats, rounds)
        for name in options.sections:
            results[name] = _measured(name, bench, scratch, model)
            results.setdefault("measured", {})[name] = {
                "command": " ".join(["python -m bench.suite", *sys.argv[1:]]),
                "at": datetime.now(UTC).isoformat(timespec="minutes"),
                "commit": ours.commit(),
                "repeats": options.repeats,
                "load_average": round(os.getloadavg()[1], 1),
            }
            path.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{name}: done", flush=True)
    table = markdown(results)
    path.with_suffix(".md").write_text(table)
    print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", help="load, mixed, scaling, memory, start; left out: all")
    parser.add_argument("--label", default="latest", help="name of the results' files")
    parser.add_argument("--servers", default="ours", help=f"of {', '.join(KINDS)}, separated by commas")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    options.sections = options.sections or [*SECTIONS, START]
    options.servers = options.servers.split(",")
    if unknown := {*options.sections} - {*SECTIONS, START} | {*options.servers} - {*KINDS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return options


def _started(
    names: list[str], model: Path, scratch: Path, stack: ExitStack
) -> tuple[list[Running], dict[str, dict[str, object]]]:
    servers: list[Running] = []
    about: dict[str, dict[str, object]] = {}
    for name in names:
        peer = KINDS[name](model, scratch)
        if isinstance(peer, Absent):
            about[peer.name] = {"not_measured": peer.why}
            continue
        try:
            server = stack.enter_context(running(peer, scratch))
        except RuntimeError as error:
            if peer.name.startswith("ours"):
                raise
            print(error, file=sys.stderr, flush=True)
            about[peer.name] = {"not_measured": "it did not become ready"}
            continue
        servers.append(server)
        about[peer.name] = {
            "build": peer.build,
            "precision": peer.precision,
            "seconds_to_ready": round(server.seconds_to_ready, 2),
        }
    return servers, about


def _checked(server: Running, engine: raw.Raw, texts: corpus.Texts) -> float:
    """The worst cosine with the raw engine. Raises RuntimeError where a server does other work."""
    worst = agreement(server, engine, list(texts.texts[:CHECKED_TEXTS]))
    if worst < SAME_DIRECTION:
        raise RuntimeError(f"{server.peer.name} gives other vectors: cosine {worst:.5f}")
    return round(worst, 6)


def _measured(name: str, bench: Bench, scratch: Path, model: Path) -> Result:
    if name != START:
        return SECTIONS[name](bench)
    with turn():
        return measures.starts(lambda folder: ours.peer(model, folder, "fp32"), model, scratch, bench.repeats)


if __name__ == "__main__":
    main()
