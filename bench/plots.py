"""Results as pictures: `python bench/plots.py bench/results/serving/LABEL.json`. Writes SVG files beside it.

Runs in an environment of its own with matplotlib (requirements/bench.txt), which `make bench` makes;
nothing of this checkout is imported.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

Results = Mapping[str, Any]

FAMILIES = {
    "ours": ("#1b6ca8", "#6fb1dc", "#0b3c5d", "#2aa5a0", "#8fd3cf"),
    "before": ("#5f6b76",),
    "text-embeddings-inference": ("#e07a1f",),
    "Infinity": ("#3c9d4e", "#9ed08f"),
    "sie-server": ("#a63d97",),
}
"""The colours of servers, by how their names begin: what belongs together looks alike."""
RAW = (("#444444", "--"), ("#8a8a8a", "--"), ("#b08900", ":"), ("#c0392b", "-."))
IDLE, BESIDE, BULK, BULK_BESIDE = "#1b6ca8", "#e07a1f", "#b7c4cf", "#3c9d4e"
_NARROW = 15
LINES = {"server": "#1b6ca8", "raw engine": "#e07a1f"}


def colours(names: Iterable[str]) -> dict[str, str]:
    """One for each server; a family that has more members than colours begins again."""
    found: dict[str, str] = {}
    used: Counter[str] = Counter()
    for name in names:
        family = next(family for family in FAMILIES if name.startswith(family))
        shades = FAMILIES[family]
        found[name] = shades[used[family] % len(shades)]
        used[family] += 1
    return found


def load(section: Results) -> Figure:
    """Bars of throughput by point and server, the raw engines' best as lines."""
    servers = section["servers"]
    points = list(next(iter(servers.values())))
    figure, axes = plt.subplots(figsize=(7 + 0.6 * len(servers), 4.4))
    width, shades = 0.84 / len(servers), colours(servers)
    for at, (name, found) in enumerate(servers.items()):
        rates = [found[point]["texts_per_second"] for point in points]
        places = [place - 0.42 + width * (at + 0.5) for place in range(len(points))]
        middle = [rate["median"] for rate in rates]
        spread = [
            [rate["median"] - rate["low"] for rate in rates],
            [rate["high"] - rate["median"] for rate in rates],
        ]
        axes.bar(places, middle, width * 0.92, yerr=spread, label=name, color=shades[name],
                 error_kw={"elinewidth": 1, "capsize": 2})  # fmt: skip
        for place, rate in zip(places, rates, strict=True):
            top = (place, rate["high"])
            axes.annotate(
                f"{rate['median']:.0f}", top, (0, 3), textcoords="offset points", ha="center", fontsize=7
            )
    for at, (name, found) in enumerate(section["raw"].items()):
        best = found["best_texts_per_second"]["median"]
        colour, line = RAW[at % len(RAW)]
        axes.axhline(best, color=colour, linestyle=line, linewidth=1.2, label=f"raw {name}, best batches")
    axes.set_xticks(range(len(points)), [point.replace("x", " x ") for point in points])
    axes.set_xlabel("clients x texts in a request")
    axes.set_ylabel("texts per second")
    axes.set_title("Throughput over HTTP, medians with lowest and highest")
    return _finished(figure, axes)


def latency(section: Results) -> Figure:
    """p50 and p99 of a request, on a logarithmic axis."""
    servers = section["servers"]
    points = list(next(iter(servers.values())))
    figure, axes = plt.subplots(figsize=(7 + 0.6 * len(servers), 4.4))
    width, shades = 0.84 / len(servers), colours(servers)
    for at, (name, found) in enumerate(servers.items()):
        for place, point in enumerate(points):
            quantiles = found[point]["latency_ms"]
            where = place - 0.42 + width * (at + 0.5)
            colour = shades[name]
            axes.plot(
                [where, where], [quantiles["p50"], quantiles["p99"]], color=colour, linewidth=3, alpha=0.45
            )
            axes.plot(where, quantiles["p50"], "o", color=colour, label=name if place == 0 else None)
            axes.plot(where, quantiles["p99"], "_", color=colour, markersize=12, markeredgewidth=2)
    axes.set_yscale("log")
    _plain(axes.yaxis)
    axes.set_xticks(range(len(points)), [point.replace("x", " x ") for point in points])
    axes.set_xlabel("clients x texts in a request")
    axes.set_ylabel("milliseconds")
    axes.set_title("Latency of a request: p50 (dot) to p99 (dash)")
    return _finished(figure, axes)


def mixed(section: Results) -> Figure:
    """What bulk does to single texts, and what they leave to it."""
    names = list(section)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 1.6 + 0.75 * len(names)))
    places = range(len(names))
    for shift, kind, label, colour in (
        (-0.2, "idle_ms", "idle server", IDLE),
        (0.2, "beside_bulk_ms", "beside bulk", BESIDE),
    ):
        middle = [section[name][kind]["p50"] for name in names]
        high = [section[name][kind]["p99"] for name in names]
        rows = [place + shift for place in places]
        left.hlines(rows, middle, high, color=colour, linewidth=3, alpha=0.45)
        left.plot(middle, rows, "o", color=colour, label=label)
        left.plot(high, rows, "|", color=colour, markersize=12, markeredgewidth=2)
    left.set_xscale("log")
    _plain(left.xaxis)
    left.tick_params(axis="x", labelrotation=45)
    left.set_xlabel("ms, p50 (dot) to p99 (dash)")
    left.set_title("A single text, 5 a second", pad=26)
    for shift, kind, label, colour in (
        (-0.2, "bulk_alone_texts_per_second", "alone", BULK),
        (0.2, "bulk_texts_per_second", "beside singles", BULK_BESIDE),
    ):
        rates = [section[name][kind]["median"] for name in names]
        right.barh([place + shift for place in places], rates, 0.36, color=colour, label=label)
    right.set_xlabel("texts per second")
    right.set_title("Bulk: 2 clients x 256 texts", pad=26)
    for axes in (left, right):
        axes.set_yticks(places, names if axes is left else [""] * len(names))
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(visible=True, axis="x", alpha=0.3)
        axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def scaling(section: Results) -> Figure:
    """Measured time against what the arithmetic says, both as multiples of the smallest size."""
    names = [name for name in section if not name.endswith("raw engine")]
    figure, all_axes = plt.subplots(1, len(names), figsize=(4 * len(names), 3.8))
    for axes, name in zip(all_axes, names, strict=True):
        for label, colour in LINES.items():
            key = name if label == "server" else f"{name}, {label}"
            if key in section:
                sizes = [int(size) for size in section[key]]
                times = [entry["ms"]["median"] for entry in section[key].values()]
                axes.plot(sizes, times, "o-", color=colour, label=label, markersize=4)
        entries = section[name]
        sizes, first = [int(size) for size in entries], next(iter(entries.values()))["ms"]["median"]
        axes.plot(sizes, [first * entry["arithmetic"] for entry in entries.values()], "--", color="#777777",
                  linewidth=1, label="arithmetic")  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        _plain(axes.yaxis)
        axes.set_xticks(sizes, [str(size) for size in sizes], fontsize=8)
        axes.set_xlabel(name)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
    all_axes[0].set_ylabel("milliseconds")
    figure.suptitle("Time for all, and what the arithmetic makes of the smallest")
    figure.tight_layout()
    return figure


def _plain(axis: Axis) -> None:
    """Label a logarithmic axis with 1, 10, 100 and what lies between them, not with powers."""
    low, high = axis.get_data_interval()
    narrow = high < _NARROW * low
    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7) if narrow else (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def _finished(figure: Figure, axes: Axes) -> Figure:
    axes.grid(visible=True, axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def main(path: Path) -> None:
    """Draw what the file has."""
    # The same results give the same bytes, so that a picture changes only when what it shows does.
    plt.rcParams |= {"svg.hashsalt": "bench", "svg.fonttype": "none", "font.family": "sans-serif"}
    results = json.loads(path.read_text())
    drawn = {"load": load, "latency": latency, "mixed": mixed, "scaling": scaling}
    for name, draw in drawn.items():
        section = results.get("load" if name == "latency" else name)
        if section is not None:
            figure = draw(section)
            figure.savefig(
                path.with_name(f"{path.stem}-{name}.svg"), bbox_inches="tight", metadata={"Date": None}
            )
            plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
