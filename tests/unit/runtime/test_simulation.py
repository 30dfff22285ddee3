"""What is promised of mixed load, on a recorded trace in simulated time."""

from pathlib import Path

import pytest

from bench.simulate import Arrival, Outcome, Simulation, mixed, read
from embedding_runtime.engine.calibration import Calibration

TRACE = read(Path(__file__).parents[3] / "bench/traces/mixed.jsonl")
SECONDS = 40.0


def _machine(overhead: float, per_token: float) -> Calibration:
    """Batches take `overhead` ms, and `per_token` ms for each padded token."""
    curves = tuple(
        (length, tuple((texts, overhead + per_token * texts * length) for texts in (1, 64)))
        for length in (16, 256)
    )
    return Calibration(curves, best_tokens=1024)


MACHINES = {
    "two idle cores": _machine(1.0, 0.1),
    "two busy cores, where every batch costs much": _machine(4.0, 0.12),
    "twenty idle cores": _machine(0.5, 0.01),
}


@pytest.fixture(scope="module", params=MACHINES)
def outcomes(request: pytest.FixtureRequest) -> dict[str, Outcome]:
    return mixed(MACHINES[request.param], TRACE, SECONDS)


def test_queries_beside_bulk_take_three_times_as_long_at_most(outcomes: dict[str, Outcome]) -> None:
    alone, beside = (outcomes[name].percentile("interactive", 99) for name in ("idle", "mixed"))
    assert beside <= 3 * alone


def test_bulk_keeps_four_fifths_of_its_throughput_beside_queries(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["mixed"].rate("bulk") >= 0.8 * outcomes["bulk"].rate("bulk")


def test_less_than_a_twentieth_of_what_runs_is_padding(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["bulk"].padding < 0.05
    assert outcomes["mixed"].padding < 0.05


def test_small_requests_of_many_clients_make_good_batches() -> None:
    lengths = [length for arrival in TRACE for length in arrival.lengths]
    requests = [
        Arrival(tuple(lengths[at : at + 8]), "interactive", client=at // 8 % 16)
        for at in range(0, len(lengths), 8)
    ]
    costs = MACHINES["two idle cores"]
    found = Simulation(costs, requests).run(SECONDS)
    assert found.padding < 0.05
    best = 1024 / costs.milliseconds(16, 64) * 1000
    assert found.rate("interactive") >= 0.9 * best
