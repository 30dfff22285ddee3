"""Every metric by its documented name, and one scrape for all processes of the server.

prometheus_client decides when it is imported whether values live in shared files, so this module must be
imported after the supervisor has set PROMETHEUS_MULTIPROC_DIR. Values of a dead process: counters stay,
gauges go (`forget`).
"""

import os
import resource
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LOAD_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

EMBED_REQUESTS = Counter("inference_embed_requests_total", "Requests to /embed.", ["model", "status"])
EMBED_SECONDS = Histogram(
    "inference_embed_duration_seconds", "Time to answer /embed.", ["model"], buckets=_REQUEST_SECONDS
)
EMBED_ITEMS = Counter("inference_embed_items_total", "Texts that were embedded.", ["model"])
RERANK_REQUESTS = Counter("inference_rerank_requests_total", "Requests to /rerank.", ["model", "status"])
RERANK_SECONDS = Histogram(
    "inference_rerank_duration_seconds", "Time to answer /rerank.", ["model"], buckets=_REQUEST_SECONDS
)
LOAD_SECONDS = Histogram(
    "model_load_duration_seconds",
    "Time to read, load and warm up a model.",
    ["model"],
    buckets=_LOAD_SECONDS,
)
MODEL_BYTES = Gauge(
    "model_memory_bytes",
    "Resident memory that a model's load added to the engine.",
    ["model"],
    multiprocess_mode="livesum",
)
# The document names a gauge `..._total`: it means the models that are active now.
MODELS_LOADED = Gauge("models_loaded_total", "Models that are loaded now.", multiprocess_mode="livesum")
CPU_PERCENT = Gauge(
    "cpu_usage_percent",
    "CPU of all processes of the server over the last seconds; 100 is one core.",
    multiprocess_mode="livesum",
)


def scrape(directory: str) -> bytes:
    """The text exposition over the values of every process that writes to `directory`."""
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=directory)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def forget(pid: int, directory: str) -> None:
    """Drop the gauges of a process that is dead."""
    multiprocess.mark_process_dead(pid, path=directory)  # type: ignore[no-untyped-call]


class CpuMeter:
    """Turns this process's CPU time into `cpu_usage_percent`, once per call to `tick`."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), _cpu_seconds()

    def tick(self) -> None:
        """Publish the usage since the last call."""
        wall, cpu = time.monotonic(), _cpu_seconds()
        if wall > self._wall:
            CPU_PERCENT.set(100 * (cpu - self._cpu) / (wall - self._wall))
        self._wall, self._cpu = wall, cpu


def resident_bytes() -> int:
    """Resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
