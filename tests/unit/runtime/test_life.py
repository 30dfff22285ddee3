"""How long draining takes."""

import pytest

from embedding_runtime.api.life import Life


@pytest.mark.parametrize(
    ("timeout", "delay", "accepting"), [(30, 5, 5), (30, 0, 0), (3, 5, 3), (0, 5, 0), (0, 0, 0)]
)
def test_the_delay_is_part_of_the_time_out(timeout: float, delay: float, accepting: float) -> None:
    life = Life(lambda: 100.0)
    assert (life.draining, life.left) == (False, float("inf"))
    assert life.drain(timeout, delay) == accepting
    assert life.draining
    assert life.left == timeout


def test_a_second_signal_moves_the_end_no_further() -> None:
    now = [100.0]
    life = Life(lambda: now[0])
    life.drain(30, 5)
    now[0] = 110.0
    assert life.drain(30, 0) == 0
    assert life.left == 20
    now[0] = 200.0
    assert life.left == 0
