"""Results as Markdown. Pure: the same results give the same text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.bars import bars
from bench.measures import scaled_texts

Results = Mapping[str, Any]


def markdown(results: Results) -> str:
    """Every section that was measured, as tables."""
    parts = [_about(results)]
    sections = {"load": _load, "mixed": _mixed, "scaling": _scaling, "memory": _memory, "start": _start}
    for name, write in sections.items():
        if name in results:
            parts.append("\n".join([*write(results[name]), "", _origin(results["measured"][name])]))
    parts.append("\n".join(_bars(results)))
    return "\n\n".join(parts) + "\n"


def _about(results: Results) -> str:
    machine, texts = results["machine"], results["corpus"]
    lines = [
        "# Serving",
        "Written by `python -m bench.suite`; figures beside this file, in JSON. Medians of repeats, the "
        "lowest and the highest in brackets.",
        "",
        f"- {machine['cores']} cores of {machine['cpu']} ({', '.join(machine['instructions'])}), "
        f"{machine['memory_gib']} GiB, Linux {machine['kernel']}, Python {machine['python']}",
        f"- {results['model']}; {texts['source']}: {texts['texts']} texts, "
        f"{texts['tokens_mean']} tokens at the mean, {texts['tokens_median']:.0f} at the median, "
        f"{texts['tokens_p95']:.0f} at the 95th percentile",
        *(f"- raw engine {name}: version {version}" for name, version in results["raw_engines"].items()),
    ]
    for name, about in results["servers"].items():
        if "not_measured" in about:
            lines.append(f"- {name}: not measured, {about['not_measured']}")
        else:
            lines.append(
                f"- {name}: {about['build']}; worst cosine with the raw engine {about['worst_cosine']}"
            )
    return "\n".join(lines)


def _origin(measured: Results) -> str:
    told = f"`{measured['command']}`, {measured['at']}, commit {measured['commit']}"
    if "load_average" in measured:
        told += f"; load average of the machine {measured['load_average']}"
    return told


def _rows(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(map(str, row)) + " |"


def _spread(figure: Results) -> str:
    return f"{figure['median']:g} ({figure['low']:g} to {figure['high']:g})"


def _load(section: Results) -> Iterator[str]:
    yield "## Throughput, texts/s"
    yield "Clients x texts in a request, each client sending its next request when the last is answered."
    yield ""
    points = list(next(iter(section["servers"].values())))
    yield from _rows(
        ["server", *points],
        [
            [name, *(_spread(found[point]["texts_per_second"]) for point in points)]
            for name, found in section["servers"].items()
        ],
    )
    yield ""
    yield "The raw engine on the texts of the last two, one by one on those of the first:"
    yield ""
    ways = list(next(iter(section["raw"].values()))["texts_per_second"])
    yield from _rows(
        ["engine", *ways],
        [
            [name, *(_spread(found["texts_per_second"][way]) for way in ways)]
            for name, found in section["raw"].items()
        ],
    )
    yield ""
    yield "## CPU time of the server for one text, ms"
    yield from _rows(
        ["server", *points],
        [
            [name, *(_spread(found[point]["cpu_ms_per_text"]) for point in points)]
            for name, found in section["servers"].items()
        ],
    )
    yield ""
    yield "## Latency of a request, p50 / p99, ms"
    yield from _rows(
        ["server", *points, "CPU of the client"],
        [
            [
                name,
                *(f"{found[p]['latency_ms']['p50']:g} / {found[p]['latency_ms']['p99']:g}" for p in points),
                f"{100 * max(found[p]['client_cpu_share'] for p in points):.1f} %",
            ]
            for name, found in section["servers"].items()
        ],
    )
    for name, found in section["raw"].items():
        single = found["one_by_one_ms"]
        yield ""
        yield f"Raw {name}, one text: {single['p50']:g} / {single['p99']:g}."


def _mixed(section: Results) -> Iterator[str]:
    yield "## Single texts beside bulk"
    yield (
        "Single texts arrive 5 a second, whether the last was answered or not; beside them two clients with "
        "requests of 256 texts without pause, and 20 health requests a second. p50 / p99, ms."
    )
    yield ""
    head = [
        "server",
        "singles, idle",
        "singles beside bulk",
        "p99 ratio",
        "bulk alone, texts/s",
        "bulk beside",
        "share",
    ]
    yield from _rows(
        [*head, "health", "refused"],
        [
            [
                name,
                f"{found['idle_ms']['p50']:g} / {found['idle_ms']['p99']:g}",
                f"{found['beside_bulk_ms']['p50']:g} / {found['beside_bulk_ms']['p99']:g}",
                f"{found['p99_ratio']:g}",
                _spread(found["bulk_alone_texts_per_second"]),
                _spread(found["bulk_texts_per_second"]),
                _spread(found["bulk_share"]),
                f"{found['health_ms']['p50']:g} / {found['health_ms']['p99']:g}",
                found["refused"],
            ]
            for name, found in section.items()
        ],
    )


def _scaling(section: Results) -> Iterator[str]:
    yield "## Scaling"
    yield (
        "Time until every client has its request answered: texts of 64 tokens, 4 in a request where clients "
        "are counted; 8 in a request where tokens are."
    )
    for what, found in section.items():
        sizes, times = list(found), [entry["ms"]["median"] for entry in found.values()]
        rates = [1000 * scaled_texts(what, int(size)) / time for size, time in zip(sizes, times, strict=True)]
        yield ""
        yield from _rows(
            [what, *sizes],
            [
                ["ms", *(_spread(entry["ms"]) for entry in found.values())],
                ["texts/s", *(f"{rate:.0f}" for rate in rates)],
                ["times the first", *(f"{time / times[0]:.2f}" for time in times)],
                ["the arithmetic", *(f"{entry['arithmetic']:g}" for entry in found.values())],
            ],
        )


def _memory(section: Results) -> Iterator[str]:
    yield "## Memory, and idle CPU"
    yield from _rows(
        ["server", "PSS of all processes, MiB", "processes", "cores used when idle"],
        [
            [name, found["pss_mib"], found["processes"], found["idle_cores"]]
            for name, found in section.items()
        ],
    )


def _start(section: Results) -> Iterator[str]:
    yield "## Seconds to ready"
    yield from _rows(
        ["nothing prepared, files not in the page cache", "second start"],
        [[_spread(section["cold"]), _spread(section["warm"])]],
    )


def _bars(results: Results) -> Iterator[str]:
    yield "## Bars"
    yield from _rows(
        ["bar", "found", "asked for", ""],
        [
            [
                bar.what,
                f"{bar.found:.3g}",
                f"{'>=' if bar.at_least else '<='} {bar.bound:.3g}",
                "met" if bar.met else "**missed**",
            ]
            for bar in bars(results)
        ],
    )
