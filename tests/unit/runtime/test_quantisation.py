"""Vectors in fewer bits, by hand."""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedding_runtime.api.dialects.quantisation import (
    Float32,
    as_base64,
    as_binary,
    as_int8,
    as_ubinary,
    as_uint8,
)

ROWS = np.array([[1.0, -1.0, 0.0, 0.5, -0.5, 0.003, -0.003, 0.1, -0.25, 0.75]], dtype=np.float32)


def test_int8_is_127_times_the_number() -> None:
    assert as_int8(ROWS).tolist() == [[127, -127, 0, 64, -64, 0, 0, 13, -32, 95]]
    assert as_int8(ROWS).dtype == np.int8


def test_uint8_is_128_higher() -> None:
    assert as_uint8(ROWS).tolist() == [[255, 1, 128, 192, 64, 128, 128, 141, 96, 223]]


def test_what_rounding_left_above_1_is_clipped() -> None:
    assert as_int8(np.array([[1.02, -1.02]], dtype=np.float32)).tolist() == [[127, -127]]


def test_the_binary_forms_keep_the_sign() -> None:
    # 1001 0101 | 01, the rest of the last byte being 0
    assert as_ubinary(ROWS).tolist() == [[0b10010101, 0b01000000]]
    assert as_binary(ROWS).tolist() == [[0b10010101 - 128, 0b01000000 - 128]]


@pytest.mark.parametrize("form", [as_int8, as_uint8, as_binary, as_ubinary])
def test_a_vector_does_not_depend_on_what_is_beside_it(form: Callable[[Float32], NDArray[Any]]) -> None:
    rows = np.random.default_rng(1).normal(size=(5, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert np.array_equal(form(rows)[2:3], form(rows[2:3]))


def test_base64_holds_the_numbers_as_they_are() -> None:
    assert np.array_equal(np.frombuffer(base64.b64decode(as_base64(ROWS[0])), "<f4"), ROWS[0])
