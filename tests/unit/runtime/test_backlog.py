"""The batching policy: complete, within its limits, fair, and sparing with padding."""

import random

from hypothesis import given
from hypothesis import strategies as st

from embedding_runtime.service.backlog import Backlog, Cut, Limits

REQUESTS = st.lists(
    st.tuples(st.integers(0, 1), st.lists(st.integers(1, 300), min_size=1, max_size=30)),
    min_size=1,
    max_size=12,
)
LIMITS = st.builds(Limits, tokens=st.integers(1, 2000), texts=st.integers(1, 40))


def _open(*limits: Limits) -> Backlog:
    backlog = Backlog()
    for slot, each in enumerate(limits):
        backlog.open(slot, each)
    return backlog


def _filled(requests: list[tuple[int, list[int]]], limits: list[Limits]) -> Backlog:
    backlog = _open(*limits)
    for number, (slot, lengths) in enumerate(requests):
        backlog.add(number, slot, lengths)
    return backlog


def _drained(backlog: Backlog) -> list[Cut]:
    cuts = []
    while (cut := backlog.cut()) is not None:
        cuts.append(cut)
    return cuts


@given(REQUESTS, LIMITS, LIMITS)
def test_every_text_runs_exactly_once_within_the_limits(
    requests: list[tuple[int, list[int]]], first: Limits, second: Limits
) -> None:
    limits = [first, second]
    backlog = _filled(requests, limits)
    cuts = _drained(backlog)
    expected = sorted(
        (number, index) for number, (_, lengths) in enumerate(requests) for index in range(len(lengths))
    )
    assert sorted(item for cut in cuts for item in cut.items) == expected
    for cut in cuts:
        lengths = [requests[number][1][index] for number, index in cut.items]
        assert {requests[number][0] for number, _ in cut.items} == {cut.slot}
        assert len(lengths) <= limits[cut.slot].texts
        assert len(lengths) == 1 or max(lengths) * len(lengths) <= limits[cut.slot].tokens
    assert (len(backlog), backlog.tokens) == (0, 0)


@given(REQUESTS, LIMITS)
def test_each_round_of_turns_brings_every_request_forward(
    requests: list[tuple[int, list[int]]], limits: Limits
) -> None:
    backlog = _filled(requests, [limits, limits])
    left = {number: len(lengths) for number, (_, lengths) in enumerate(requests)}
    while left:
        waiting = set(left)
        before = dict(left)
        for _ in range(len(waiting)):
            cut = backlog.cut()
            if cut is None:
                break
            for number, _index in cut.items:
                left[number] -= 1
        left = {number: count for number, count in left.items() if count}
        assert all(left.get(number, 0) < before[number] for number in waiting)


@given(REQUESTS, LIMITS, st.data())
def test_a_dropped_request_costs_nothing_more(
    requests: list[tuple[int, list[int]]], limits: Limits, data: st.DataObject
) -> None:
    backlog = _filled(requests, [limits, limits])
    backlog.cut()
    gone = data.draw(st.integers(0, len(requests) - 1))
    backlog.drop(gone)
    backlog.drop(gone)
    assert all(number != gone for cut in _drained(backlog) for number, _ in cut.items)
    assert backlog.tokens == 0


def test_a_single_text_waits_for_one_batch_of_the_bulk_in_front() -> None:
    backlog = _open(Limits(tokens=1024, texts=256))
    backlog.add(1, 0, [100] * 500)
    backlog.add(2, 0, [7])
    backlog.cut()
    second = backlog.cut()
    assert second is not None
    assert (2, 0) in second.items


def test_texts_of_mixed_lengths_are_padded_little() -> None:
    draw = random.Random(1)
    lengths = [min(256, max(3, int(draw.lognormvariate(3.6, 0.8)))) for _ in range(512)]
    backlog = _open(Limits(tokens=1024, texts=256))
    backlog.add(1, 0, lengths)
    padded = 0
    for cut in _drained(backlog):
        batch = [lengths[index] for _, index in cut.items]
        padded += max(batch) * len(batch)
    assert sum(lengths) / padded > 0.93


def test_a_text_longer_than_the_budget_runs_alone() -> None:
    backlog = _open(Limits(tokens=100, texts=10))
    backlog.add(1, 0, [500, 5])
    cut = backlog.cut()
    assert cut == Cut(0, ((1, 0),))
