"""Vectors of length 1 in fewer bits, each by itself: what shares its request changes nothing. Pure.

The scales are Cohere's: int8 is 127 times the number, the binary forms keep a number's sign.
"""

import base64

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

# What a number takes in base64.
BASE64_BYTES = 6

_MOST = 127
_MIDDLE = 128


def as_base64(row: Float32) -> str:
    """The little-endian float32 numbers of one vector."""
    return base64.b64encode(row.data).decode("ascii")


def as_int8(rows: Float32) -> NDArray[np.int8]:
    """float32 [n, d] as int8 [n, d], -127 to 127."""
    return np.clip(np.rint(rows * _MOST), -_MOST, _MOST).astype(np.int8)


def as_uint8(rows: Float32) -> NDArray[np.uint8]:
    """The same, 128 higher: uint8 [n, d]."""
    return (as_int8(rows).astype(np.int16) + _MIDDLE).astype(np.uint8)


def as_ubinary(rows: Float32) -> NDArray[np.uint8]:
    """A bit for each number, 1 where it is positive, the first one highest: uint8 [n, ceil(d / 8)]."""
    return np.packbits(rows > 0, axis=1)


def as_binary(rows: Float32) -> NDArray[np.int8]:
    """The same, 128 lower: int8 [n, ceil(d / 8)]."""
    return (as_ubinary(rows).astype(np.int16) - _MIDDLE).astype(np.int8)
