"""Whether this HTTP process drains, and how long that may take. Decided here, done in process.py."""

import time
from collections.abc import Callable

_INF = float("inf")


class Life:
    """Alive until `drain`; then `draining`, and everything must have ended `ends` (monotonic seconds)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked = -_INF
        self._began, self._delay = _INF, _INF
        self.draining = False
        self.ends = _INF

    def asked(self) -> None:
        """Hear of a request."""
        self._asked = self._clock()

    def drain(self, timeout: float, delay: float) -> None:
        """Begin to drain. Asked again, the end stays where it was, and the shorter delay counts."""
        if not self.draining:
            self.draining, self._began = True, self._clock()
            self.ends = self._began + timeout
        self._delay = min(self._delay, delay)

    @property
    def accepting(self) -> float:
        """For how many seconds more requests are accepted, if none comes: until none has come for the delay.

        The last server behind an address is sent requests until there is another one. What is in flight needs
        time too, so half of the whole is the longest, or the delay where that is longer.
        """
        if not self.draining:
            return _INF
        quiet = max(self._began, self._asked) + self._delay
        longest = self._began + max(self._delay, (self.ends - self._began) / 2)
        return max(0.0, min(quiet, longest, self.ends) - self._clock())

    @property
    def left(self) -> float:
        """Seconds until the end, at least 0."""
        return max(0.0, self.ends - self._clock())
