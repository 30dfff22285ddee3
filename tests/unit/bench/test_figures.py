"""What becomes of measured values: figures, bars, tables."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bench
from bench.bars import Bar, bars
from bench.figures import milliseconds, quantile, repeated
from bench.raw import ONE_BY_ONE, plans
from bench.table import markdown

SERVING = Path(bench.__path__[0], "results", "serving")


def test_repeats_give_the_median_and_the_spread() -> None:
    assert repeated([3.0, 1.0, 2.04]) == {"median": 2.0, "low": 1.0, "high": 3.0, "all": [3.0, 1.0, 2.0]}


def test_quantiles_are_values_that_were_measured() -> None:
    found = milliseconds([number / 1000 for number in range(100, 0, -1)])
    assert found == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "count": 100}
    with pytest.raises(ValueError, match="nothing"):
        quantile([], 50)


@given(st.lists(st.integers(2, 500), min_size=1, max_size=300))
def test_a_plan_runs_every_text_once_within_its_budget(lengths: list[int]) -> None:
    for way, batches in plans(lengths).items():
        seen = sorted(index for batch in batches for index in batch)
        if way == ONE_BY_ONE:
            assert seen == list(range(min(96, len(lengths))))
            continue
        budget = int(way.split()[1].replace(",", ""))
        assert seen == list(range(len(lengths)))
        for batch in batches:
            assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget


def _server(rate: float, p50: float = 1.0) -> dict[str, object]:
    figure = {"texts_per_second": repeated([rate]), "latency_ms": {"p50": p50, "p99": p50, "count": 1}}
    return dict.fromkeys(("1x1", "8x1", "16x8", "4x32"), figure)


def test_bars_compare_servers_of_one_precision_inside_one_run() -> None:
    load = {
        "raw": {
            "ONNX Runtime fp32": {"best_texts_per_second": repeated([200]), "one_by_one_ms": {"p50": 5.0}},
            "OpenVINO bf16": {"best_texts_per_second": repeated([500]), "one_by_one_ms": {"p50": 2.0}},
        },
        "servers": {
            "ours fp32": _server(190, p50=6.0),
            "ours OpenVINO bf16": _server(400),
            "text-embeddings-inference fp32": _server(100),
            "Infinity torch bf16": _server(200),
        },
    }
    found = {bar.what: bar for bar in bars({"load": load})}
    assert found["ours fp32 / raw ONNX Runtime fp32, throughput at 16x8"] == Bar(
        "ours fp32 / raw ONNX Runtime fp32, throughput at 16x8", 0.95, 0.90, at_least=True
    )
    assert not found["ours OpenVINO bf16 / raw OpenVINO bf16, throughput at 16x8"].met
    assert found["ours fp32: single-request p50, ms (1.1 x raw + 1 ms)"].bound == pytest.approx(6.5)
    assert not found["ours fp32 / text-embeddings-inference fp32, throughput at 16x8"].met
    assert found["ours OpenVINO bf16 / Infinity torch bf16, throughput at 4x32"].found == 2.0
    assert not any("ours fp32 / Infinity" in what for what in found)


def test_scaling_tells_of_the_doubling_that_costs_most() -> None:
    def entry(ms: float, arithmetic: float) -> dict[str, object]:
        return {"ms": repeated([ms]), "arithmetic": arithmetic}

    (bar,) = bars({"scaling": {"clients": {"1": entry(10, 1), "2": entry(24, 2), "4": entry(40, 4)}}})
    assert bar.what == "clients, 1 to 2: time / arithmetic"
    assert bar.found == pytest.approx(1.2)
    assert not bar.met


@pytest.mark.parametrize("path", sorted(SERVING.glob("*.json")), ids=lambda path: path.stem)
def test_the_tables_that_are_kept_are_those_of_the_results(path: Path) -> None:
    assert path.with_suffix(".md").read_text() == markdown(json.loads(path.read_text()))
