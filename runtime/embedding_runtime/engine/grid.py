"""Which shapes batches have, for a backend that compiles each new shape. Pure."""

from dataclasses import dataclass

# Lengths differ by at least so many tokens, and otherwise in their first four binary digits: a text has at
# most an eighth of padding, and there are forty lengths up to 512.
_LEAST_STEP, _LENGTH_DIGITS = 4, 4
# So a batch is cut short by less than a quarter, which it has the less to wait for.
_TEXTS_DIGITS = 3


@dataclass(frozen=True)
class Grid:
    """`longest`: the most tokens that the model takes."""

    longest: int

    def length(self, tokens: int) -> int:
        """How long a text of so many tokens is with padding, even by itself."""
        step = max(_LEAST_STEP, _step(tokens, _LENGTH_DIGITS))
        return max(tokens, min(self.longest, -(-tokens // step) * step))

    def texts(self, count: int) -> int:
        """How many of up to `count` texts make a batch, at least one."""
        step = _step(count, _TEXTS_DIGITS)
        return count // step * step


def _step(number: int, digits: int) -> int:
    """What numbers of this size that have so many significant binary digits are multiples of."""
    return 1 << max(0, number.bit_length() - digits)
