"""The batching policy: complete, within its limits, fair to all, and sparing with padding."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_runtime.engine.calibration import Calibration
from embedding_runtime.service.policy.admission import Ahead, Bounds, refusal
from embedding_runtime.service.policy.backlog import PRIORITIES, Backlog, Cut, Priority, priority_of
from embedding_runtime.service.policy.window import Limits

Request = tuple[int, Priority, list[int]]

REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(PRIORITIES),
        st.lists(st.integers(1, 300), min_size=1, max_size=30),
    ),
    min_size=1,
    max_size=12,
)
LIMITS = st.builds(Limits, tokens=st.integers(1, 2000), texts=st.integers(1, 40))


def _costs(overhead: float, token: float, best: int = 1024) -> Calibration:
    """A machine whose batches take `overhead` ms, and `token` ms for each padded token."""
    return Calibration(
        tuple(
            (length, tuple((texts, overhead + token * texts * length) for texts in (1, 4096)))
            for length in (1, 4096)
        ),
        best,
    )


COSTS = st.builds(_costs, st.floats(0, 20), st.floats(0.001, 1))
# About what all-MiniLM-L6-v2 costs on two cores.
TWO_CORES = _costs(1.0, 0.1)


def _backlog(costs: Calibration, *limits: Limits) -> Backlog:
    backlog = Backlog()
    for slot, each in enumerate(limits):
        backlog.open(slot, each, costs)
    return backlog


def _filled(requests: Sequence[Request], costs: Calibration, limits: Sequence[Limits]) -> Backlog:
    backlog = _backlog(costs, *limits)
    for number, (slot, priority, lengths) in enumerate(requests):
        backlog.add(number, slot, lengths, priority, 0.0)
    return backlog


def _drained(backlog: Backlog, now: float = 0.0) -> list[Cut]:
    cuts = []
    while (cut := backlog.cut(now)) is not None:
        cuts.append(cut)
    return cuts


def _tokens(backlog: Backlog) -> int:
    return sum(backlog.line(priority).tokens for priority in PRIORITIES)


@given(REQUESTS, COSTS, LIMITS, LIMITS, st.sampled_from([0.0, 100.0]))
def test_every_text_runs_exactly_once_within_the_limits(
    requests: list[Request], costs: Calibration, first: Limits, second: Limits, now: float
) -> None:
    limits = [first, second]
    backlog = _filled(requests, costs, limits)
    cuts = _drained(backlog, now)
    expected = sorted(
        (number, index) for number, (*_, lengths) in enumerate(requests) for index in range(len(lengths))
    )
    assert sorted(item for cut in cuts for item in cut.items) == expected
    for cut in cuts:
        lengths = [requests[number][2][index] for number, index in cut.items]
        assert {requests[number][:2] for number, _ in cut.items} == {(cut.slot, cut.priority)}
        assert len(lengths) <= limits[cut.slot].texts
        assert len(lengths) == 1 or max(lengths) * len(lengths) <= limits[cut.slot].tokens
        assert (cut.tokens, cut.padded) == (sum(lengths), max(lengths) * len(lengths))
        assert cut.milliseconds == costs.milliseconds(len(lengths), max(lengths))
    assert (len(backlog), _tokens(backlog)) == (0, 0)
    assert [backlog.ahead(priority).seconds for priority in PRIORITIES] == [0, 0]


@given(REQUESTS, COSTS, LIMITS)
def test_each_round_of_turns_brings_every_request_forward(
    requests: list[Request], costs: Calibration, limits: Limits
) -> None:
    same = [(slot, PRIORITIES[0], lengths) for slot, _, lengths in requests]
    backlog = _filled(same, costs, [limits, limits])
    left = {number: len(lengths) for number, (*_, lengths) in enumerate(same)}
    while left:
        waiting = set(left)
        before = dict(left)
        for _ in range(len(waiting)):
            cut = backlog.cut(0.0)
            if cut is None:
                break
            for number, _index in cut.items:
                left[number] -= 1
        left = {number: count for number, count in left.items() if count}
        assert all(left.get(number, 0) < before[number] for number in waiting)


@given(
    st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=8), min_size=1, max_size=3),
    st.lists(st.integers(10, 300), min_size=1, max_size=5),
    st.builds(_costs, st.floats(1, 20), st.floats(0.01, 0.2)),
)
@settings(max_examples=30)
def test_bulk_is_done_in_bounded_time_although_queries_never_pause(
    bulk: list[list[int]], queries: list[int], costs: Calibration
) -> None:
    backlog = _backlog(costs, Limits(1024, 64))
    for number, lengths in enumerate(bulk):
        backlog.add(-1 - number, 0, lengths, "bulk", 0.0)
    left, now, number = sum(map(len, bulk)), 0.0, 0
    work = 0.0
    while left:
        # Before each batch a query comes: there always is one.
        backlog.add(number, 0, [queries[number % len(queries)]], "interactive", now)
        number += 1
        cut = backlog.cut(now)
        assert cut is not None
        now += cut.milliseconds / 1000
        if cut.priority == "bulk":
            left -= len(cut.items)
            work += cut.milliseconds
    longest = costs.milliseconds(1, 300)
    # Five times its own work, the first slice's wait, and what one query and one slice may exceed it.
    assert 1000 * now <= 5 * (work + 10 + 30) + 2 * longest


@given(REQUESTS, COSTS, LIMITS, st.data())
def test_a_dropped_request_costs_nothing_more(
    requests: list[Request], costs: Calibration, limits: Limits, data: st.DataObject
) -> None:
    backlog = _filled(requests, costs, [limits, limits])
    backlog.cut(0.0)
    gone = data.draw(st.integers(0, len(requests) - 1))
    backlog.drop(gone)
    backlog.drop(gone)
    assert all(number != gone for cut in _drained(backlog) for number, _ in cut.items)
    assert _tokens(backlog) == 0


def test_a_query_goes_before_all_bulk_that_waits() -> None:
    backlog = _backlog(TWO_CORES, Limits(tokens=1024, texts=256))
    backlog.add(1, 0, [100] * 500, "bulk", 0.0)
    backlog.add(2, 0, [7], "interactive", 0.0)
    cut = backlog.cut(0.0)
    assert cut is not None
    assert cut.items == ((2, 0),)


@pytest.mark.parametrize(
    ("seconds_ago", "longest", "shortest"),
    [(0.0, 12.0, 8.0), (0.9, 12.0, 8.0), (1.1, 33.0, 20.0), (2.0, 60.0, 34.0), (60.0, 103.5, 40.0)],
)
def test_bulk_is_cut_short_while_queries_come_and_less_the_longer_none_came(
    seconds_ago: float, longest: float, shortest: float
) -> None:
    backlog = _backlog(TWO_CORES, Limits(tokens=1024, texts=256))
    backlog.add(1, 0, [9], "interactive", 10.0)
    backlog.add(2, 0, [20] * 256, "bulk", 10.0)
    backlog.cut(10.0)
    cut = backlog.cut(10.0 + seconds_ago)
    assert cut is not None
    assert shortest <= cut.milliseconds <= longest


def test_a_slice_is_longer_where_10_ms_would_cost_a_tenth_of_the_throughput_and_never_endless() -> None:
    for overhead, most in ((2.0, 21.0), (200.0, 30.0)):
        backlog = _backlog(_costs(overhead, 0.1), Limits(tokens=1024, texts=256))
        backlog.add(1, 0, [9], "interactive", 0.0)
        backlog.add(2, 0, [20] * 256, "bulk", 0.0)
        backlog.cut(0.0)
        cut = backlog.cut(0.0)
        assert cut is not None
        assert len(cut.items) == 1 or 10 < cut.milliseconds <= most


def test_a_slice_is_shorter_on_a_machine_on_which_queries_are() -> None:
    costs = _costs(0.5, 0.01)
    backlog = _backlog(costs, Limits(tokens=1024, texts=256))
    backlog.add(1, 0, [9], "interactive", 0.0)
    backlog.add(2, 0, [20] * 256, "bulk", 0.0)
    backlog.cut(0.0)
    cut = backlog.cut(0.0)
    assert cut is not None
    assert costs.milliseconds(1, 64) <= cut.milliseconds <= 3 * costs.milliseconds(1, 128)


def test_the_expected_wait_follows_the_pace_of_a_busy_machine() -> None:
    backlog = _backlog(TWO_CORES, Limits(tokens=1024, texts=256))
    backlog.add(1, 0, [10], "interactive", 0.0)
    query = backlog.cut(0.0)
    assert query is not None
    backlog.add(2, 0, [10] * 500, "bulk", 0.0)
    calm = backlog.ahead("bulk").seconds
    for _ in range(50):
        backlog.ran(query, 2 * query.milliseconds / 1000)
    assert backlog.pace(0) == pytest.approx(2, rel=0.01)
    assert backlog.ahead("bulk").seconds == pytest.approx(2 * calm, rel=0.01)


def test_a_model_that_is_slower_than_calibrated_does_not_lengthen_the_waits_for_another() -> None:
    backlog = _backlog(TWO_CORES, Limits(1024, 256), Limits(1024, 256))
    backlog.add(1, 0, [10], "interactive", 0.0)
    slow = backlog.cut(0.0)
    assert slow is not None
    for _ in range(50):
        backlog.ran(slow, 4 * slow.milliseconds / 1000)
    backlog.add(2, 1, [10] * 500, "bulk", 0.0)
    other = backlog.ahead("bulk").seconds
    backlog.add(3, 0, [10] * 500, "bulk", 0.0)
    assert backlog.ahead("bulk").seconds == pytest.approx(5 * other, rel=0.01)


def test_one_hiccup_does_not_upset_the_pace() -> None:
    backlog = _backlog(TWO_CORES, Limits(tokens=1024, texts=256))
    backlog.add(1, 0, [10], "interactive", 0.0)
    cut = backlog.cut(0.0)
    assert cut is not None
    backlog.ran(cut, 60.0)
    assert backlog.pace(0) < 3


def test_a_batch_is_not_filled_where_padding_would_cost_more_than_it_saves() -> None:
    backlog = _backlog(TWO_CORES, Limits(tokens=1024, texts=256))
    backlog.add(1, 0, [200, 8, 8, 9], "interactive", 0.0)
    assert [cut.items for cut in _drained(backlog)] == [((1, 0),), ((1, 1), (1, 2), (1, 3))]


def test_a_batch_is_filled_on_a_device_that_small_batches_leave_idle() -> None:
    backlog = _backlog(_costs(5.0, 0.001, 16384), Limits(tokens=16384, texts=256))
    backlog.add(1, 0, [50, 8, 8, 9], "interactive", 0.0)
    assert len(_drained(backlog)) == 1


def test_a_text_longer_than_the_budget_runs_alone() -> None:
    backlog = _backlog(TWO_CORES, Limits(tokens=100, texts=10))
    backlog.add(1, 0, [500, 5], "bulk", 0.0)
    cut = backlog.cut(0.0)
    assert cut is not None
    assert cut.items == ((1, 0),)


@given(REQUESTS, COSTS)
def test_what_is_expected_to_be_ahead_is_about_what_it_takes(
    requests: list[Request], costs: Calibration
) -> None:
    bulk = [(0, PRIORITIES[1], lengths) for _, _, lengths in requests]
    backlog = _filled(bulk, costs, [Limits(costs.best_tokens, 256)])
    ahead = backlog.ahead("bulk")
    assert ahead.tokens == sum(sum(lengths) for *_, lengths in bulk)
    took = sum(cut.milliseconds for cut in _drained(backlog)) / 1000
    # Few texts of unlike lengths do not make the good batches that are counted on.
    one_by_one = sum(costs.milliseconds(1, length) for *_, lengths in bulk for length in lengths) / 1000
    assert ahead.seconds * 0.99 <= took <= one_by_one * 1.01


def test_bulk_alone_never_has_a_query_refused() -> None:
    backlog = _backlog(TWO_CORES, Limits(tokens=1024, texts=256))
    backlog.add(1, 0, [100] * 5000, "bulk", 0.0)
    assert refusal(backlog.ahead("bulk"), 10, Bounds(262_144, 60)) is not None
    assert refusal(backlog.ahead("interactive"), 10, Bounds(262_144, 60)) is None


@pytest.mark.parametrize(
    ("ahead", "tokens", "seconds"),
    [
        (Ahead(0, 0.0), 10**9, None),
        (Ahead(600, 6.0), 400, None),
        (Ahead(600, 6.0), 500, 1.0),
        (Ahead(600, 6.0), 5000, 6.0),
        (Ahead(100, 75.0), 1, 15.0),
    ],
)
def test_what_is_refused_and_when_it_may_come_back(ahead: Ahead, tokens: int, seconds: float | None) -> None:
    found = refusal(ahead, tokens, Bounds(1000, 60.0))
    assert (found.seconds if found else None) == (pytest.approx(seconds) if seconds else None)


def test_who_does_not_say_is_taken_for_a_query_up_to_eight_texts() -> None:
    assert [priority_of(texts) for texts in (1, 8, 9, 2048)] == ["interactive"] * 2 + ["bulk"] * 2
