"""What a backend has besides (`backend`) whose device computes while this process does something else."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from embedding_runtime.engine.backend import Float32, Tokens

# Waits for a batch that is under way: its rows, float32 [b, width]. Raises as `Backend.run`.
Pending = Callable[[], Float32]


@runtime_checkable
class OnDevice(Protocol):
    """A backend that can be ahead of its device. `variant` tells graphs apart that do the same by other
    kernels.
    """

    variant: str

    @property
    def overlaps(self) -> bool:
        """Whether `start` comes back before the rows are there. Known after `warm_up`."""

    def start(self, texts: Sequence[Tokens]) -> Pending:
        """Begin a batch; what comes back waits for it. Raises as `Backend.run`."""

    def shrink(self) -> None:
        """Give the memory back that is held and not used, where there is any. Raises nothing."""
