"""What becomes of measured values: medians with their spread, and quantiles. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

Figure = dict[str, object]


def repeated(values: Sequence[float], digits: int = 1) -> Figure:
    """The median of repeats, the lowest and the highest, and all of them."""
    rounded = [round(value, digits) for value in values]
    return {
        "median": round(statistics.median(values), digits),
        "low": min(rounded),
        "high": max(rounded),
        "all": rounded,
    }


def milliseconds(seconds: Sequence[float]) -> Figure:
    """Quantiles of latencies, in milliseconds, and how many there were."""
    ordered = sorted(seconds)
    return {
        **{f"p{part}": round(quantile(ordered, part) * 1000, 2) for part in (50, 90, 99)},
        "count": len(ordered),
    }


def quantile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that `percent` of all do not exceed (nearest rank), of sorted values."""
    if not ordered:
        raise ValueError("there is nothing to take a quantile of")
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
