"""One request after the other over one kept connection: `python -m bench.single LABEL`.

Adds p50 and p99 in milliseconds of `/health/live` and `/embed` to bench/results/single.json, under the label.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import httpx

from e2e.mirror import models
from e2e.mirror.server import Mirror

RESULTS = Path(__file__).with_name("results") / "single.json"
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
RUNTIME = [sys.executable, "-m", "embedding_runtime"]
REQUESTS, REPEATS, START_SECONDS = 150, 3, 60.0


def served(home: Path) -> tuple[subprocess.Popen[bytes], httpx.Client]:
    """Fetch the model from a mirror on loopback and serve it offline; the process and a client, ready."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedding-operator"
    models.lay_out(cache / f"models-{models.key()}")
    mirror = Mirror(("127.0.0.1", 0), cache / f"models-{models.key()}")
    Thread(target=mirror.serve_forever, daemon=True).start()
    base = {**os.environ, "HF_HOME": str(home), "LOG_LEVEL": "error"}
    hub = {"MODEL_ID": MODEL, "HF_ENDPOINT": f"http://127.0.0.1:{mirror.server_port}"}
    subprocess.run([*RUNTIME, "prefetch"], env=base | hub, check=True, stdout=subprocess.DEVNULL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serving = {"API_PORT": str(port), "API_WORKERS": "1", "HF_HUB_OFFLINE": "1", "API_HOST": "127.0.0.1"}
    process = subprocess.Popen([*RUNTIME, "serve"], env=base | serving | {"DEFAULT_EMBEDDING_MODEL": MODEL})
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}")
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if client.get("/health/ready").status_code == httpx.codes.OK:
                return process, client
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    process.terminate()
    raise TimeoutError(f"not ready within {START_SECONDS} s")


def measured(ask: Callable[[], httpx.Response]) -> dict[str, float]:
    """Medians over the repeats of p50 and p99, in milliseconds."""
    found = []
    for _ in range(REPEATS):
        taken = []
        for _ in range(REQUESTS):
            start = time.perf_counter()
            ask().raise_for_status()
            taken.append((time.perf_counter() - start) * 1000)
        quantiles = statistics.quantiles(taken, n=100)
        found.append((quantiles[49], quantiles[98]))
    p50, p99 = (statistics.median(values) for values in zip(*found, strict=True))
    return {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}


def main(label: str) -> None:
    """Measure and write."""
    with tempfile.TemporaryDirectory() as home:
        process, client = served(Path(home))
        try:
            result = {
                "command": f"python -m bench.single {label}",
                "live": measured(lambda: client.get("/health/live")),
                "embed": measured(lambda: client.post("/embed", json={"input": "hello world"})),
            }
        finally:
            process.terminate()
            process.wait()
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(known | {label: result}, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
