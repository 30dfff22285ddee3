"""What batches cost by arithmetic, made to fit what was measured. Pure.

A batch takes something by itself (its kernels are called, its threads wake up), something for each token
(matrix products with the weights) and something for each pair of tokens of a text (attention). Three numbers
found from all measurements are far less moved by what disturbed one of them: of two batch sizes whose speeds
differ by 3 % the disturbed one looked 10 % slower, and batches came out half as large as they should.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

# By length in tokens and number of texts: milliseconds.
Measured = Mapping[tuple[int, int], float]

# Fewer measurements than this would be met by three numbers whatever they are.
_LEAST = 6
# Devices that many tokens cost no more than few, up to a point, are not described by it: then all batches of
# some size are off.
_NEAR = 0.15
# Least absolute deviations by reweighting, so that one disturbed batch does not count for more than others.
_ROUNDS, _SMALLEST = 10, 0.005


def arithmetic(measured: Measured) -> dict[tuple[int, int], float]:
    """The same batches with what they cost by arithmetic; as they are, where that describes them badly."""
    if len(measured) < _LEAST:
        return dict(measured)
    cells = np.array(list(measured), dtype=np.float64)
    taken = np.array(list(measured.values()))
    tokens = cells.prod(axis=1)
    # Each divided by what was measured: errors count by their share.
    parts = np.stack([np.ones_like(taken), tokens, tokens * cells[:, 0]], axis=1) / taken[:, None]
    shares = parts @ _numbers(parts)
    if any(np.median(np.abs(shares[tokens == size] - 1)) > _NEAR for size in np.unique(tokens)):
        return dict(measured)
    return {cell: float(ms * share) for (cell, ms), share in zip(measured.items(), shares, strict=True)}


def _numbers(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each part costs, none less than nothing."""
    kept = list(range(parts.shape[1]))
    while True:
        found = _fit(parts[:, kept])
        if len(kept) == 1 or found.min() >= 0:
            numbers = np.zeros(parts.shape[1])
            numbers[kept] = found
            return numbers
        del kept[int(found.argmin())]


def _fit(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.ones(len(parts))
    for _ in range(_ROUNDS):
        found = np.linalg.lstsq(parts * weights[:, None], weights, rcond=None)[0].astype(np.float64)
        weights = 1 / np.sqrt(np.maximum(np.abs(parts @ found - 1), _SMALLEST))
    return found
