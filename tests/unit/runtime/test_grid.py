"""The shapes of batches, for a backend that compiles each new one: few, and near what they stand for."""

from hypothesis import given
from hypothesis import strategies as st

from embedding_runtime.engine.grid import Grid

GRID = Grid(512)


@given(st.integers(1, 512))
def test_a_length_is_padded_to_the_next_of_few(tokens: int) -> None:
    length = GRID.length(tokens)
    assert tokens <= length <= max(tokens + 3, tokens * 9 / 8)
    assert GRID.length(length) == length


def test_there_are_forty_lengths_up_to_512_tokens() -> None:
    lengths = {GRID.length(tokens) for tokens in range(1, 513)}
    assert len(lengths) == 40
    assert {4, 8, 12, 64, 72, 128, 144, 512} <= lengths


def test_no_length_is_beyond_what_the_model_takes() -> None:
    assert [Grid(250).length(tokens) for tokens in (239, 241, 250)] == [240, 250, 250]


@given(st.integers(1, 4096))
def test_a_batch_is_cut_short_by_less_than_a_quarter(count: int) -> None:
    texts = GRID.texts(count)
    assert 0.75 * count < texts <= count
    assert GRID.texts(texts) == texts


def test_small_batches_are_not_cut_short() -> None:
    assert [GRID.texts(count) for count in range(1, 12)] == [1, 2, 3, 4, 5, 6, 7, 8, 8, 10, 10]
