"""How long draining takes."""

import pytest

from embedding_runtime.api.life import Life


@pytest.mark.parametrize(
    ("timeout", "delay", "accepting"), [(30, 5, 5), (30, 0, 0), (3, 5, 3), (0, 5, 0), (0, 0, 0)]
)
def test_the_delay_is_part_of_the_time_out(timeout: float, delay: float, accepting: float) -> None:
    life = Life(lambda: 100.0)
    assert (life.draining, life.left) == (False, float("inf"))
    life.drain(timeout, delay)
    assert life.accepting == accepting
    assert life.draining
    assert life.left == timeout


def test_a_second_signal_moves_the_end_no_further() -> None:
    now = [100.0]
    life = Life(lambda: now[0])
    life.drain(30, 5)
    now[0] = 110.0
    life.drain(30, 0)
    assert (life.accepting, life.left) == (0, 20)
    now[0] = 200.0
    assert life.left == 0


@pytest.mark.parametrize(
    ("timeout", "delay", "closes"),
    [(30, 5, 15), (8, 5, 5), (3, 5, 3), (30, 0, 0)],
    ids=["half of the time", "the delay at least", "the whole at most", "no delay"],
)
def test_who_goes_on_asking_is_answered_for_a_while(timeout: float, delay: float, closes: float) -> None:
    now = [100.0]
    life = Life(lambda: now[0])
    life.drain(timeout, delay)
    while life.accepting > 0:
        life.asked()
        now[0] += 0.25
    assert now[0] == pytest.approx(100 + closes, abs=0.25)


def test_the_delay_begins_with_the_last_request() -> None:
    now = [100.0]
    life = Life(lambda: now[0])
    life.asked()
    now[0] = 200.0
    life.drain(30, 5)
    assert life.accepting == 5
    now[0] = 204.0
    life.asked()
    assert life.accepting == 5
    now[0] = 209.0
    assert life.accepting == 0
