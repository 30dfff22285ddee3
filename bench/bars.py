"""The bars that the product sets itself, held against one run's results. Pure.

Every bar is a ratio or a bound inside that run; one whose parts were not measured is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Results = Mapping[str, Any]
OURS, OURS_ENGINE = "ours fp32", "ONNX Runtime fp32"
_TEI = {"1x1": 0.95, "8x1": 1.3, "16x8": 2.0, "4x32": 2.0}
_INFINITY = {"fp32": 2.0, "bf16": 1.7}
_RAW = {"fp32": 0.90, "bf16": 0.85}
_ONNX_RUNTIME = ("ONNX Runtime", "ONNX Runtime as served")
_ENGINES = {"ours": _ONNX_RUNTIME, "ours binary": _ONNX_RUNTIME, "ours OpenVINO": ("OpenVINO",)}
_ALLOWED_GROWTH = 1.1


@dataclass(frozen=True)
class Bar:
    """What is asked for, and what was found."""

    what: str
    found: float
    bound: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether it holds."""
        return self.found >= self.bound if self.at_least else self.found <= self.bound


def bars(results: Results) -> list[Bar]:
    """Every bar that this run can tell of."""
    sections: Sequence[tuple[str, Callable[[Any], Iterator[Bar]]]] = (
        ("load", _load),
        ("mixed", _mixed),
        ("scaling", _scaling),
        ("memory", _memory),
        ("start", _start),
    )
    return [bar for name, found in sections if name in results for bar in found(results[name])]


def _load(section: Results) -> Iterator[Bar]:
    raw, servers = section["raw"], section["servers"]
    for name, points in servers.items():
        for engine in filter(raw.__contains__, engines_of(name)):
            best, rate = raw[engine]["best_texts_per_second"]["median"], _rate(points, "16x8")
            bound = _RAW[engine.rpartition(" ")[2]]
            yield Bar(f"{name} / raw {engine}, throughput at 16x8", rate / best, bound, at_least=True)
    if OURS not in servers:
        return
    ours = servers[OURS]
    single, alone = ours["1x1"]["latency_ms"]["p50"], raw[OURS_ENGINE]["one_by_one_ms"]["p50"]
    yield Bar(f"{OURS}: single-request p50, ms (1.1 x raw + 1 ms)", single, 1.1 * alone + 1, at_least=False)
    for point in ours:
        for name, points in servers.items():
            if name.startswith("text-embeddings-inference"):
                bound = _TEI[point]
            elif name.startswith("Infinity"):
                bound = _INFINITY[name.rpartition(" ")[2]]
            else:
                continue
            mine = _same_precision(servers, name)
            if mine is not None:
                ratio = _rate(servers[mine], point) / _rate(points, point)
                yield Bar(f"{mine} / {name}, throughput at {point}", ratio, bound, at_least=True)


def engines_of(server: str) -> Sequence[str]:
    """The names of the raw engines that one of our servers stands on, as they are by themselves and as it has
    them; none for other servers.
    """
    kind, _, precision = server.rpartition(" ")
    return [f"{engine} {precision}" for engine in _ENGINES.get(kind, ())]


def _same_precision(servers: Results, peer: str) -> str | None:
    precision = peer.rpartition(" ")[2]
    return next(
        (name for name in (f"ours {precision}", f"ours OpenVINO {precision}") if name in servers), None
    )


def _rate(points: Results, point: str) -> float:
    rate: float = points[point]["texts_per_second"]["median"]
    return rate


def _mixed(section: Results) -> Iterator[Bar]:
    for name, found in section.items():
        if name.startswith("ours"):
            yield Bar(f"{name}: p99 beside bulk / p99 idle", found["p99_ratio"], 3, at_least=False)
            yield Bar(
                f"{name}: bulk's share of its rate alone", found["bulk_share"]["median"], 0.8, at_least=True
            )
            yield Bar(f"{name}: health p99 beside bulk, ms", found["health_ms"]["p99"], 50, at_least=False)


def _scaling(section: Results) -> Iterator[Bar]:
    for what, found in section.items():
        if what.endswith("raw engine"):
            continue
        sizes = list(found)
        growth = {
            f"{small} to {large}": found[large]["ms"]["median"]
            / found[small]["ms"]["median"]
            / (found[large]["arithmetic"] / found[small]["arithmetic"])
            for small, large in pairwise(sizes)
        }
        worst = max(growth, key=growth.__getitem__)
        yield Bar(f"{what}, {worst}: time / arithmetic", growth[worst], _ALLOWED_GROWTH, at_least=False)


def _memory(section: Results) -> Iterator[Bar]:
    for name, found in section.items():
        if name.startswith("ours"):
            yield Bar(f"{name}: memory after load, MiB", found["pss_mib"], 450 / 1.048576, at_least=False)
            yield Bar(f"{name}: cores used when idle", found["idle_cores"], 0.01, at_least=False)


def _start(section: Results) -> Iterator[Bar]:
    yield Bar("seconds to ready, second start", section["warm"]["median"], 2, at_least=False)
