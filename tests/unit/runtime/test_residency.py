"""Which models have to go: as few as it takes, never a default one, never one with work."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_runtime.service.residency import Resident, idle, leaving, to_unload

DEFAULT = Resident(0, 100, kept=True, busy=False, last_used=0)
OLD = Resident(1, 100, kept=False, busy=False, last_used=1)
NEW = Resident(2, 100, kept=False, busy=False, last_used=2)
BUSY = Resident(3, 100, kept=False, busy=True, last_used=0)

RESIDENTS = st.lists(
    st.builds(
        Resident,
        slot=st.integers(0, 10**9),
        bytes=st.integers(0, 1000),
        kept=st.booleans(),
        busy=st.booleans(),
        last_used=st.floats(0, 1000),
    ),
    max_size=8,
    unique_by=lambda each: each.slot,
)


@pytest.mark.parametrize(
    ("residents", "needed", "budget", "expected"),
    [
        ([OLD, NEW], 10**12, None, []),
        ([], 100, 100, []),
        ([], 101, 100, None),
        ([OLD, NEW], 100, 300, []),
        ([NEW, OLD], 101, 300, [1]),
        ([OLD, NEW], 201, 300, [1, 2]),
        ([OLD, replace(NEW, last_used=0)], 101, 300, [2]),
        ([DEFAULT, OLD], 100, 200, [1]),
        ([DEFAULT, OLD], 101, 200, None),
        ([BUSY, OLD], 100, 200, [1]),
        ([BUSY, DEFAULT], 1, 200, None),
    ],
)
def test_the_least_recently_used_make_room(
    residents: list[Resident], needed: int, budget: int | None, expected: list[int] | None
) -> None:
    assert to_unload(residents, needed, budget) == expected


@given(RESIDENTS, st.integers(0, 1000), st.integers(0, 5000))
def test_what_goes_is_enough_and_not_more(residents: list[Resident], needed: int, budget: int) -> None:
    held = {each.slot: each for each in residents}
    going = to_unload(residents, needed, budget)
    movable = sum(each.bytes for each in leaving(residents))
    total = sum(each.bytes for each in residents)
    if going is None:
        assert total - movable + needed > budget
        return
    gone = [held[slot] for slot in going]
    assert not any(each.kept or each.busy for each in gone)
    assert total - sum(each.bytes for each in gone) + needed <= budget
    if gone:
        assert total - sum(each.bytes for each in gone[:-1]) + needed > budget
        stayed = [each for each in leaving(residents) if each.slot not in going]
        assert all(each.last_used <= other.last_used for each in gone for other in stayed)


@pytest.mark.parametrize(
    ("now", "seconds", "expected"), [(11, 10, [1]), (12, 10, [1, 2]), (10, 10, []), (10**6, None, [])]
)
def test_idle_models_go_after_their_time(now: float, seconds: float | None, expected: list[int]) -> None:
    assert idle([DEFAULT, NEW, OLD, BUSY], now, seconds) == expected
