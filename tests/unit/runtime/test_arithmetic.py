"""Costs by arithmetic: near the truth where measurements are noisy, and none where it does not hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_runtime.engine.arithmetic import arithmetic

CELLS = [(length, 2**power) for length in (16, 64, 256) for power in range(6) if length * 2**power <= 512]


def _cost(length: int, texts: int) -> float:
    """About what all-MiniLM-L6-v2 takes on two cores."""
    return 2.5 + texts * length * (0.088 + 0.00006 * length)


@given(st.lists(st.floats(1.0, 1.1), min_size=len(CELLS), max_size=len(CELLS)))
def test_disturbances_of_some_batches_hardly_move_what_all_of_them_cost(disturbed: list[float]) -> None:
    measured = {cell: _cost(*cell) * factor for cell, factor in zip(CELLS, disturbed, strict=True)}
    found = arithmetic(measured)
    assert found.keys() == measured.keys()
    assert all(0.95 * _cost(*cell) <= ms <= 1.15 * _cost(*cell) for cell, ms in found.items())


def test_one_batch_that_was_disturbed_does_not_look_slower_than_a_smaller_one() -> None:
    measured = {cell: _cost(*cell) for cell in CELLS} | {(64, 8): 1.1 * _cost(64, 8)}
    found = arithmetic(measured)
    assert measured[64, 8] / 8 > measured[64, 4] / 4
    assert found[64, 8] / 8 < found[64, 4] / 4
    assert found[64, 8] == pytest.approx(_cost(64, 8), rel=0.01)


def test_a_device_that_takes_as_long_for_few_tokens_as_for_many_stays_as_it_was_measured() -> None:
    measured = {
        (length, tokens // length): max(2.0, 0.001 * tokens)
        for length in (16, 64, 256)
        for tokens in (2**power for power in range(4, 15))
        if tokens >= length
    }
    assert arithmetic(measured) == measured


def test_few_measurements_stay_as_they_are() -> None:
    measured = {(16, 1): 3.0, (16, 2): 9.0, (64, 1): 4.0}
    assert arithmetic(measured) == measured


def test_nothing_is_ever_taken_to_cost_less_than_nothing() -> None:
    measured = {cell: 0.1 * cell[0] * cell[1] / (1 + 0.0001 * cell[0]) for cell in CELLS}
    found = arithmetic(measured)
    assert all(ms == pytest.approx(measured[cell], rel=0.05) for cell, ms in found.items())
