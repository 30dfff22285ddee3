"""What a model is computed in, given what was asked for and what its file holds. Pure.

A file of 32-bit weights can be computed in any precision that the machine has. One whose weights were rounded
already is run as it is, or not at all: what was cut off does not come back.
"""

from embedding_runtime.errors import PrecisionUnavailableError
from embedding_runtime.settings import Precision


def computed_in(wanted: Precision, weights: str) -> str:
    """The precision that a graph with such weights is to be computed in: fp32, fp16, bf16 or int8.

    Raises PrecisionUnavailableError where the weights do not allow what is wanted.
    """
    if wanted in ("auto", weights):
        return weights
    if weights != "fp32":
        raise PrecisionUnavailableError(
            f"the model's weights are {weights}, from which nothing can be computed in {wanted}; leave the "
            "precision at auto or choose another file"
        )
    return wanted
