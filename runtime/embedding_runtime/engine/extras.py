"""What a batch gives beside its rows, for each of its texts."""

from collections.abc import Mapping, Sequence

import numpy as np

from embedding_runtime.engine.backend import Batch, Extra, Float32, Outcome, finite
from embedding_runtime.engine.ending import Ending
from embedding_runtime.engine.pooling import normalize
from embedding_runtime.errors import InternalError, UnsupportedFieldError

_TOLD: dict[Extra, str] = {"norm": "vectors that are not normalised", "tokens": "a vector for each token"}


def no_such(name: Extra) -> UnsupportedFieldError:
    """The error for what the model does not give."""
    return UnsupportedFieldError(f"the model's graph does not give {_TOLD[name]}")


def checked(rows: Float32) -> Float32:
    """The rows, float32 [b, width], in one piece.

    Raises InternalError where they are not finite.
    """
    if not finite(rows):
        raise InternalError("the model gave values that are not finite numbers")
    return np.ascontiguousarray(rows)


def by_text(found: Mapping[Extra, Float32], batch: Batch) -> dict[Extra, list[Float32]]:
    """A graph's outputs for a batch, [b] or [b, s, h], as one array for each text, without padding.

    Raises InternalError where they are not finite.
    """
    lengths = batch.attention_mask.sum(axis=1)
    told: dict[Extra, list[Float32]] = {}
    for name, values in found.items():
        each = [
            values[at, :size] if values.ndim == 3 else values[at : at + 1, None]
            for at, size in enumerate(lengths)
        ]
        told[name] = [checked(part) for part in each]
    return told


def from_own_graph(
    output: Float32, batch: Batch, ending: Ending | None, extras: Sequence[Extra], *, normalizes: bool
) -> Outcome:
    """The same of a repository's own graph, whose output is no vector yet: [b, s, h], of which the ending
    makes one, or [b, width], which needs none.
    """
    if "tokens" in extras and ending is None:
        raise no_such("tokens")
    rows = output if ending is None else ending.rows(output, batch.pooling_mask)
    there: dict[Extra, Float32] = {"norm": np.linalg.norm(rows, axis=1), "tokens": output}
    if normalizes:
        rows = normalize(rows)
    return Outcome(checked(rows), by_text({name: there[name] for name in extras}, batch))


def joined(parts: Sequence[Outcome]) -> Outcome:
    """Several batches as one."""
    names = parts[0].extras
    extras = {name: [each for part in parts for each in part.extras[name]] for name in names}
    return Outcome(np.concatenate([part.rows for part in parts]), extras)
