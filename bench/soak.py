"""Whether a server's memory stays where it is: `python -m bench.soak [--minutes N] [--provider P]
[--precision P]`.

Serves all-MiniLM-L6-v2, sends requests of 1 to 256 texts of every length from four clients without a pause,
and adds to bench/results/soak.json, by provider and precision: the PSS of all processes after the first
minute and, as the median of the last minute, at the end, in MiB, with a value for every five seconds between.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx

from bench import footprint

RESULTS = Path(__file__).with_name("results") / "soak.json"
CLIENTS, INTERVAL, LIMIT = 4, 5.0, 254
WINDOW = 60.0
MOST_TOKENS = 4096


def load(client: httpx.Client, seed: int, stop: Event) -> int:
    """Send requests until told to stop; how many texts were answered."""
    chance, texts = random.Random(seed), 0
    while not stop.is_set():
        count = chance.choice([1, 1, 1, 2, 4, 8, 32, 256])
        longest = min(LIMIT, max(4, MOST_TOKENS // count))
        lengths = [chance.randint(1, longest) for _ in range(count)]
        footprint.ask(client, "embed", ["fox " * length for length in lengths])
        texts += count
    return texts


def sampled(pid: int, seconds: float) -> list[float]:
    """The server's PSS in MiB, every few seconds for so long."""
    found, ends = [], time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(INTERVAL)
        found.append(round(sum(map(footprint.pss, footprint.tree(pid))) / footprint.MIB, 1))
    return found


def soak(minutes: float, provider: str, precision: str) -> dict[str, object]:
    """Run the server under load for so long; what its memory did."""
    folder = footprint.repositories() / footprint.REAL["all-MiniLM-L6-v2"]
    variables = {"ORT_EXECUTION_PROVIDER": provider, "MODEL_PRECISION": precision}
    with footprint.served(folder, "embed", 1, variables=variables) as (pid, client):
        footprint.wait_ready(client)
        stop = Event()
        with ThreadPoolExecutor(CLIENTS) as clients:
            running = [clients.submit(load, client, seed, stop) for seed in range(CLIENTS)]
            samples = sampled(pid, 60 * minutes)
            stop.set()
        texts = sum(each.result() for each in running)
    window = int(WINDOW / INTERVAL)
    first, last = samples[window - 1], statistics.median(samples[-window:])
    return {
        "minutes": minutes,
        "texts": texts,
        "after_first_minute_mib": first,
        "at_end_mib": last,
        "growth": round(last / first - 1, 3),
        "samples_mib": samples,
    }


def main() -> None:
    """Soak once and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--precision", default="auto")
    said = parser.parse_args()
    command = f"python -m bench.soak --minutes {said.minutes:g} --provider {said.provider}"
    found = {
        "command": f"{command} --precision {said.precision}",
        **soak(said.minutes, said.provider, said.precision),
    }
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    name = f"{said.provider} {said.precision}"
    RESULTS.write_text(json.dumps(known | {name: found}, indent=1) + "\n")
    print(name, json.dumps({key: value for key, value in found.items() if key != "samples_mib"}))


if __name__ == "__main__":
    main()
