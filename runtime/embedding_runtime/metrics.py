"""Every metric by its documented name, and one scrape for all processes of the server.

prometheus_client decides when it is imported whether values live in shared files, so this module must be
imported after the supervisor has set PROMETHEUS_MULTIPROC_DIR. Values of a dead process: counters stay,
gauges go (`forget`).
"""

import fcntl
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.mmap_dict import MmapedDict

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_STAGE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LOAD_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_LOCK_ATTEMPTS, _LOCK_WAIT_SECONDS = 100, 0.01
_COUNTS = tuple(2**power for power in range(12))


class LateGauge:
    """A gauge without labels that is absent until it is set for the first time; others begin at 0."""

    def __init__(self, name: str, documentation: str) -> None:
        self._name, self._documentation = name, documentation
        self._gauge: Gauge | None = None

    def set(self, value: float) -> None:
        """Set it; from then on it is there."""
        if self._gauge is None:
            self._gauge = Gauge(self._name, self._documentation, multiprocess_mode="livemax")
        self._gauge.set(value)


# Counted by the HTTP processes.
EMBED_REQUESTS = Counter("inference_embed_requests_total", "Requests to /embed.", ["model", "status"])
EMBED_SECONDS = Histogram(
    "inference_embed_duration_seconds", "Time to answer /embed.", ["model"], buckets=_REQUEST_SECONDS
)
EMBED_ITEMS = Counter("inference_embed_items_total", "Texts that were embedded.", ["model"])
EMBED_REQUEST_ITEMS = Histogram(
    "inference_embed_request_items", "Texts in one request to /embed.", ["model"], buckets=_COUNTS
)
RERANK_REQUESTS = Counter("inference_rerank_requests_total", "Requests to /rerank.", ["model", "status"])
RERANK_SECONDS = Histogram(
    "inference_rerank_duration_seconds", "Time to answer /rerank.", ["model"], buckets=_REQUEST_SECONDS
)
TOKENS = Counter(
    "inference_tokens_total",
    "Tokens of answered requests: after truncation, with special tokens, without padding.",
    ["model"],
)
STAGE_SECONDS = Histogram(
    "inference_stage_duration_seconds",
    "Time that answered requests spent in one stage: load, tokenize, queue, compute, encode.",
    ["stage"],
    buckets=_STAGE_SECONDS,
)
IN_FLIGHT = Gauge(
    "inference_requests_in_flight", "Inference requests being answered now.", multiprocess_mode="livesum"
)
REJECTIONS = Counter(
    "inference_rejections_total", "Requests answered with 401, 413, 429, 503 or 504.", ["reason"]
)

# Counted by the engine process.
LOAD_SECONDS = Histogram(
    "model_load_duration_seconds",
    "Time to read, load and warm up a model.",
    ["model"],
    buckets=_LOAD_SECONDS,
)
LOAD_FAILURES = Counter("model_load_failures_total", "Loads that failed.", ["model", "reason"])
EVICTIONS = Counter(
    "model_evictions_total", "Models that were unloaded, for the budget or idle.", ["model", "reason"]
)
MODEL_BYTES = Gauge(
    "model_memory_bytes",
    "Memory that a model's load added to the engine.",
    ["model"],
    multiprocess_mode="livesum",
)
# The document names a gauge `..._total`: it means the models that are active now.
MODELS_LOADED = Gauge("models_loaded_total", "Models that are loaded now.", multiprocess_mode="livesum")
MODEL_STATE = Gauge(
    "model_state",
    "1 for the state that a model is in, 0 for those it was in.",
    ["model", "state"],
    multiprocess_mode="livemax",
)
PROVIDER = Gauge(
    "model_provider_info",
    "1 for the execution provider and the precision that a loaded model runs with.",
    ["model", "provider", "precision"],
    multiprocess_mode="livemax",
)
FALLBACKS = Counter(
    "model_provider_fallbacks_total", "Loads on another provider than the one asked for.", ["model"]
)
UNPREPARED = Counter(
    "model_preparation_fallbacks_total",
    "Loads of a model's own graph, since none could be prepared or the prepared one failed its check.",
    ["model"],
)
UNFUSED = Counter(
    "model_unfused_total",
    "Loads of a graph in which not all is fused that its architecture allows.",
    ["model"],
)
BATCH_TEXTS = Histogram("inference_batch_size", "Texts in one batch.", ["model"], buckets=_COUNTS)
PADDING = Counter("inference_padding_tokens_total", "Padding that went through the model.", ["model"])
QUEUE_TEXTS = Gauge(
    "inference_queue_depth", "Texts that wait for a batch.", ["priority"], multiprocess_mode="livesum"
)
QUEUE_TOKENS = Gauge(
    "inference_queue_tokens", "Tokens that wait for a batch.", ["priority"], multiprocess_mode="livesum"
)
QUEUE_SECONDS = Histogram(
    "inference_queue_wait_seconds",
    "Time from a request's arrival in the queue to its first batch.",
    ["model", "priority"],
    buckets=_STAGE_SECONDS,
)
MEMORY_SHORT = Counter(
    "inference_memory_shortages_total",
    "Batches that found no memory, by what was tried next: shrink, unload, split, refuse.",
    ["step"],
)
GPU_USED = LateGauge("gpu_memory_used_bytes", "Memory in use on the GPU.")
GPU_TOTAL = LateGauge("gpu_memory_total_bytes", "Memory of the GPU.")

# Counted by the supervisor.
ENGINE_RESTARTS = Counter(
    "engine_restarts_total", "Restarts of the engine process, crashed or hung.", ["reason"]
)

# By every process but the supervisor.
CPU_PERCENT = Gauge(
    "cpu_usage_percent",
    "CPU of all processes of the server over the last seconds; 100 is one core.",
    multiprocess_mode="livesum",
)


def scrape(directory: str) -> bytes:
    """The text exposition over the values of every process that writes to `directory`."""
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=directory)  # type: ignore[no-untyped-call]
    with _held(directory, exclusively=False):
        return generate_latest(registry)


def forget(pid: int, directory: str) -> None:
    """Drop the gauges of a process that is dead; add its counters and histograms to those of the dead.

    One file for all of them, so that a process that crashes every half minute does not fill the volume. A
    scrape waits meanwhile: it would count some values twice.
    """
    with _held(directory, exclusively=True):
        multiprocess.mark_process_dead(pid, path=directory)  # type: ignore[no-untyped-call]
        for kind in ("counter", "histogram"):
            dead = Path(directory, f"{kind}_{pid}.db")
            if dead.exists():
                _add(dead, Path(directory, f"{kind}_dead.db"))
                dead.unlink()


def _add(source: Path, target: Path) -> None:
    """Add the values in one of prometheus_client's files to those in another."""
    total = MmapedDict(str(target))  # type: ignore[no-untyped-call]
    for key, value, _, _ in MmapedDict.read_all_values_from_file(str(source)):  # type: ignore[no-untyped-call]
        had, _ = total.read_value(key)  # type: ignore[no-untyped-call]
        total.write_value(key, had + value, 0.0)  # type: ignore[no-untyped-call]
    total.close()  # type: ignore[no-untyped-call]


@contextmanager
def _held(directory: str, *, exclusively: bool) -> Iterator[None]:
    """The lock on the folder: scrapes side by side, or one change alone.

    Not for ever: a stopped HTTP process must not stop the supervisor. One scrape that counts twice is the
    lesser evil.
    """
    folder = os.open(directory, os.O_RDONLY)
    how = (fcntl.LOCK_EX if exclusively else fcntl.LOCK_SH) | fcntl.LOCK_NB
    try:
        for _ in range(_LOCK_ATTEMPTS):
            try:
                fcntl.flock(folder, how)
                break
            except BlockingIOError:
                time.sleep(_LOCK_WAIT_SECONDS)
        yield
    finally:
        os.close(folder)


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
