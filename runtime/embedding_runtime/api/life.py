"""Whether this HTTP process drains, and how long that may take. Decided here, done in process.py."""

import time
from collections.abc import Callable


class Life:
    """Alive until `drain`; then `draining`, and everything must have ended `ends` (monotonic seconds)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.draining = False
        self.ends = float("inf")

    def drain(self, timeout: float, delay: float) -> float:
        """Begin to drain; for how many seconds of the timeout requests are still to be accepted.

        Asked again, the end stays where it was.
        """
        if not self.draining:
            self.draining, self.ends = True, self._clock() + timeout
        return min(delay, self.left)

    @property
    def left(self) -> float:
        """Seconds until the end, at least 0."""
        return max(0.0, self.ends - self._clock())
