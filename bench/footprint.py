"""What a serving pod takes of memory and CPU, by model: `python -m bench.footprint [NAME...]`.

Serves each model as the operator's pods do, sends it texts of every length up to its limit and requests as
large as are taken, and adds to bench/results/footprint.json, by name: the proportional set size (PSS) of all
processes together when it is ready and at its peak, that of each kind of process, and the CPU time of each
kind in seconds per second of load. The operator's sets/footprint.py has its constants from there.
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import httpx

from bench import shapes
from bench.shapes import Shape
from e2e.mirror import models

RESULTS = Path(__file__).with_name("results") / "footprint.json"
RUNTIME = [sys.executable, "-m", "embedding_runtime"]
START_SECONDS, LOAD_SECONDS, INTERVAL = 120.0, 20.0, 0.05
CLIENTS, MIB, TICKS = 4, 2**20, os.sysconf("SC_CLK_TCK")

REAL = {
    "all-MiniLM-L6-v2": "sentence-transformers/all-MiniLM-L6-v2",
    "bert-tiny-cross-encoder": "embedding-operator/bert-tiny-cross-encoder",
}
MORE_WORKERS = {f"all-MiniLM-L6-v2, {count} workers": count for count in (3, 4)}
RANDOM = {
    "MiniLM-L6 int8": Shape(6, 384, 12, precision="int8"),
    "bge-small shape": Shape(12, 384, 12),
    "bge-base shape": Shape(12, 768, 12),
    "bge-base shape fp16": Shape(12, 768, 12, precision="fp16"),
    "bge-base shape int8": Shape(12, 768, 12, precision="int8"),
    "bge-large shape": Shape(24, 1024, 16),
    "bge-base shape, 2048 tokens": Shape(12, 768, 12, positions=2048),
}


@dataclass
class Watch:
    """The largest PSS seen, of all processes at one time and of each kind, in bytes."""

    root: int
    peak: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    stop: Event = field(default_factory=Event)

    def look(self) -> int:
        """Take one sample; return the total."""
        found: dict[str, int] = {}
        for pid in tree(self.root):
            kind = process_kind(pid)
            found[kind] = found.get(kind, 0) + pss(pid)
        for kind, value in found.items():
            self.kinds[kind] = max(value, self.kinds.get(kind, 0))
        total = sum(found.values())
        self.peak = max(self.peak, total)
        return total

    def run(self) -> None:
        """Take samples until told to stop."""
        while not self.stop.wait(INTERVAL):
            self.look()


def tree(root: int) -> list[int]:
    """Return a process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = entry.read_text()
        except OSError:
            continue
        children.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(entry.parent.name))
    found, waiting = [], [root]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def pss(pid: int) -> int:
    """Return the proportional set size of a process in bytes, 0 of one that is gone."""
    try:
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def process_kind(pid: int) -> str:
    """Return supervisor, engine or http by a process's own title."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return "gone"
    return "engine" if "engine" in line else "server"


def cpu_seconds(root: int) -> dict[str, float]:
    """Return the CPU time of every kind of process so far."""
    found: dict[str, float] = {}
    for pid in tree(root):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        kind = process_kind(pid)
        found[kind] = found.get(kind, 0.0) + (int(fields[11]) + int(fields[12])) / TICKS
    return found


@contextmanager
def served(
    folder: Path,
    task: str,
    workers: int,
    log_level: str = "error",
    variables: Mapping[str, str] | None = None,
    others: Mapping[str, Path] | None = None,
) -> Iterator[tuple[int, httpx.Client]]:
    """Serve a folder like a pod does, or as the variables say; the supervisor's process id and a client.

    `others`: folders of models by id, which are loaded when they are asked for.
    """
    with socket.socket() as free, socket.socket() as other:
        free.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        port, metrics = free.getsockname()[1], other.getsockname()[1]
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch, "models.json")
        folders = {"bench/model": folder, **(others or {})}
        entries = [{"id": name, "path": str(where)} for name, where in folders.items()]
        config.write_text(json.dumps({"models": entries}))
        environment = os.environ | {
            "MODELS_CONFIG": str(config),
            "DEFAULT_EMBEDDING_MODEL": "bench/model" if task == "embed" else "",
            "DEFAULT_RERANKING_MODEL": "bench/model" if task == "rerank" else "",
            "ALLOWED_MODELS": ",".join(folders),
            "HF_HOME": scratch,
            "HF_HUB_OFFLINE": "1",
            "ORT_EXECUTION_PROVIDER": "cpu",
            "API_HOST": "127.0.0.1",
            "API_PORT": str(port),
            "METRICS_PORT": str(metrics),
            "API_WORKERS": str(workers),
            "LOG_LEVEL": log_level,
            "REQUEST_TIMEOUT_SECS": "600",
            **(variables or {}),
        }
        process = subprocess.Popen([*RUNTIME, "serve"], env=environment)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
                yield process.pid, client
        finally:
            process.terminate()
            process.wait()


def wait_ready(client: httpx.Client) -> None:
    """Wait until the model answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if client.get("/health/ready").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"not ready within {START_SECONDS} s")


def ask(client: httpx.Client, task: str, texts: list[str]) -> None:
    """Send one request."""
    if task == "embed":
        client.post("/embed", json={"input": texts}).raise_for_status()
    else:
        client.post("/rerank", json={"query": "fox", "documents": texts}).raise_for_status()


def load(client: httpx.Client, task: str, limit: int) -> float:
    """Send texts of every length from several clients, then what is as large as is taken; the seconds."""
    started = time.monotonic()

    def one(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < started + LOAD_SECONDS:
            lengths = [limit if chance.random() < 0.3 else chance.randint(1, limit) for _ in range(4)]
            ask(client, task, ["fox " * length for length in lengths])

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(one, range(CLIENTS)))
    mixed = time.monotonic() - started
    for _ in range(CLIENTS):
        ask(client, task, ["fox"] * 2048)
        ask(client, task, ["fox " * 2_400_000])
    return mixed


def measured(folder: Path, task: str, workers: int = 1) -> dict[str, object]:
    """Return the figures of one model."""
    config = json.loads((folder / "config.json").read_text())
    limit = config["max_position_embeddings"]
    with served(folder, task, workers) as (pid, client):
        watch = Watch(pid)
        watching = Thread(target=watch.run)
        watching.start()
        try:
            wait_ready(client)
            time.sleep(1)
            loaded, starting = watch.look(), watch.peak
            before = cpu_seconds(pid)
            seconds = load(client, task, limit)
            spent = {kind: value - before.get(kind, 0) for kind, value in cpu_seconds(pid).items()}
        finally:
            watch.stop.set()
            watching.join()
    weights = sum(path.stat().st_size for path in folder.rglob("*.onnx*"))
    return {
        "weights_mib": round(weights / MIB),
        "layers": config["num_hidden_layers"],
        "hidden": config["hidden_size"],
        "heads": config["num_attention_heads"],
        "max_tokens": limit,
        "workers": workers,
        "starting_peak_mib": round(starting / MIB),
        "ready_mib": round(loaded / MIB),
        "peak_mib": round(watch.peak / MIB),
        "kinds_peak_mib": {kind: round(value / MIB) for kind, value in sorted(watch.kinds.items())},
        "cpu_per_second": {kind: round(value / seconds, 2) for kind, value in sorted(spent.items())},
    }


def repositories() -> Path:
    """Return the folder of the real models."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedding-operator"
    models.lay_out(cache / f"models-{models.key()}")
    return cache / f"models-{models.key()}"


def tokenizer() -> Path:
    """Return a folder with the tokenizer that made-up models get."""
    return repositories() / REAL["all-MiniLM-L6-v2"]


def main(names: list[str]) -> None:
    """Measure the named models, or all, and write."""
    hub = repositories()
    for name in names or [*REAL, *MORE_WORKERS, *RANDOM]:
        known_as, workers = name.partition(",")[0], MORE_WORKERS.get(name, 1)
        with tempfile.TemporaryDirectory() as scratch:
            folder, task = Path(scratch, "model"), "embed"
            if known_as in REAL:
                folder, task = hub / REAL[known_as], "rerank" if "cross-encoder" in name else "embed"
            else:
                shapes.lay_out(RANDOM[name], tokenizer(), folder)
            found = {"command": f'python -m bench.footprint "{name}"', **measured(folder, task, workers)}
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(known | {name: found}, indent=1) + "\n")
        print(name, json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
