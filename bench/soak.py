"""Whether a server's memory stays where it is: `python -m bench.soak [--minutes N] [--provider P]
[--precision P]`.

Serves all-MiniLM-L6-v2 and sends requests of 1 to 256 texts of every length from four clients without a
pause. Each minute a second model is asked for once and unloaded again when nobody used it for a while. Adds
to bench/results/soak.json, by provider and precision, for each minute in MiB, as medians of its last 15
seconds, when the second model is gone: the PSS of all processes, and the RSS of the engine and of the HTTP
process.

Between some minutes and the next it waits for BENCH_LOCK, where that is set: then the server is idle in
between, and the minutes are those of load.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx

from bench import footprint
from bench.suite import turn

RESULTS = Path(__file__).with_name("results") / "soak.json"
CLIENTS, INTERVAL, LIMIT, MOST_TOKENS = 4, 2.5, 254, 4096
MINUTE, SETTLED = 60.0, 15.0
MINUTES_A_TURN = 4
VISITOR, VISITOR_IDLE = "bert-tiny-cross-encoder", 15


def load(client: httpx.Client, chance: random.Random, stop: Event) -> int:
    """Send requests until told to stop; how many texts were answered."""
    texts = 0
    while not stop.is_set():
        count = chance.choice([1, 1, 1, 2, 4, 8, 32, 256])
        longest = min(LIMIT, max(4, MOST_TOKENS // count))
        lengths = [chance.randint(1, longest) for _ in range(count)]
        footprint.ask(client, "embed", ["fox " * length for length in lengths])
        texts += count
    return texts


def rss(pid: int) -> int:
    """The resident set size of a process in bytes, 0 of one that is gone."""
    try:
        found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def look(root: int) -> dict[str, float]:
    """The server's memory now: `pss` of all, and `engine` and `http`, their RSS."""
    found = {"pss": 0, "engine": 0, "http": 0}
    for pid in footprint.tree(root):
        found["pss"] += footprint.pss(pid)
        kind = footprint.process_kind(pid)
        if kind == "engine":
            found["engine"] += rss(pid)
        elif pid != root:
            found["http"] += rss(pid)
    return {kind: round(value / footprint.MIB, 1) for kind, value in found.items()}


def minute(pid: int, client: httpx.Client, chances: Sequence[random.Random]) -> tuple[dict[str, float], int]:
    """Load for a minute; what memory was at its end, and how many texts were answered."""
    stop, samples = Event(), []
    with ThreadPoolExecutor(len(chances)) as clients:
        running = [clients.submit(load, client, chance, stop) for chance in chances]
        ends = time.monotonic() + MINUTE
        try:
            visit(client)
            while (left := ends - time.monotonic()) > 0:
                time.sleep(min(left, INTERVAL))
                if left <= SETTLED:
                    samples.append(look(pid))
        finally:
            stop.set()
    found = {kind: statistics.median(sample[kind] for sample in samples) for kind in samples[0]}
    return found, sum(each.result() for each in running)


def visit(client: httpx.Client) -> None:
    """Have the second model loaded."""
    asked = {"model": f"bench/{VISITOR}", "query": "fox", "documents": ["a fox", "a river"]}
    client.post("/rerank", json=asked).raise_for_status()


def soak(minutes: int, provider: str, precision: str) -> dict[str, object]:
    """Run the server under so many minutes of load; what its memory did."""
    hub = footprint.repositories()
    variables = {
        "ORT_EXECUTION_PROVIDER": provider,
        "MODEL_PRECISION": precision,
        "MODEL_IDLE_SECS": str(VISITOR_IDLE),
    }
    others = {f"bench/{VISITOR}": hub / footprint.REAL[VISITOR]}
    main_model = hub / footprint.REAL["all-MiniLM-L6-v2"]
    found: list[dict[str, float]] = []
    texts, chances = 0, [random.Random(seed) for seed in range(CLIENTS)]
    with footprint.served(main_model, "embed", 1, variables=variables, others=others) as (pid, client):
        with turn():
            footprint.wait_ready(client)
        while len(found) < minutes:
            with turn():
                for _ in range(min(MINUTES_A_TURN, minutes - len(found))):
                    memory, answered = minute(pid, client, chances)
                    found.append(memory)
                    texts += answered
                    print(len(found), memory, flush=True)
    return {
        "minutes": minutes,
        "texts": texts,
        "growth": {kind: round(found[-1][kind] / found[0][kind] - 1, 3) for kind in found[0]},
        "after_each_minute_mib": {kind: [memory[kind] for memory in found] for kind in found[0]},
    }


def main() -> None:
    """Soak once and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--precision", default="auto")
    said = parser.parse_args()
    command = f"python -m bench.soak --minutes {said.minutes} --provider {said.provider}"
    found = {
        "command": f"{command} --precision {said.precision}",
        **soak(said.minutes, said.provider, said.precision),
    }
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    name = f"{said.provider} {said.precision}"
    RESULTS.write_text(json.dumps(known | {name: found}, indent=1) + "\n")
    print(name, json.dumps(found["growth"]))


if __name__ == "__main__":
    main()
