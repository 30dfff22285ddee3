"""How far a download is, told to a program, to a log or to somebody at a terminal."""

import json
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NoReturn, Protocol, TextIO

from tqdm import tqdm

from embedding_runtime.registry.volume import mib

_JSON_SECONDS = 1.0
_PLAIN_SECONDS = 5.0
_PACE_SECONDS = 10.0
_PACE_STEP = 0.5


class Progress(Protocol):
    """What hears of a model's phases: resolving, waiting, downloading, unpacking, inspecting."""

    def __call__(self, phase: str, message: str, bytes_: int | None = None, total: int | None = None) -> None:
        """Report; without bytes the last known ones stand."""

    def paused(self, seconds: float) -> None:
        """The hub has asked not to be asked again for so long: for whoever else might ask it."""

    def close(self) -> None:
        """Nothing more comes of this model."""


class Throttle:
    """Lets a report through when its phase is new, when a download is done, and else once in `seconds`."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds, self._clock = seconds, clock
        self._phase = ""
        self._last = 0.0
        self.bytes, self.total = 0, None  # type: int, int | None

    def lets(self, phase: str, bytes_: int | None, total: int | None) -> bool:
        """Whether to tell this one; remembers the bytes either way."""
        now = self._clock()
        # The last report of a download is worth a line of its own, once.
        done = bytes_ is not None and bytes_ == total and self.bytes != bytes_
        if bytes_ is not None:
            self.bytes, self.total = bytes_, total
        if phase == self._phase and now - self._last < self._seconds and not done:
            return False
        self._phase, self._last = phase, now
        return True


class Pace:
    """How fast a download has been, over the last ten seconds of it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def __call__(self, phase: str, bytes_: int | None) -> int | None:
        """Hear of a report; bytes a second, None where nothing is downloaded or it has just begun."""
        if phase != "downloading":
            self._seen.clear()
            return None
        now = self._clock()
        if bytes_ is not None and (not self._seen or now - self._seen[-1][0] >= _PACE_STEP):
            self._seen.append((now, bytes_))
        while len(self._seen) > 2 and now - self._seen[0][0] > _PACE_SECONDS:
            self._seen.popleft()
        if len(self._seen) < 2:
            return None
        (since, had), (until, has) = self._seen[0], self._seen[-1]
        return max(0, round((has - had) / (until - since)))


class JsonLines:
    """One JSON object per line, at most one a second for the same phase; with `model` where one is given.

    `speed` is in bytes a second, and there while something is downloaded.
    """

    def __init__(
        self, stream: TextIO, clock: Callable[[], float] = time.monotonic, model: str | None = None
    ) -> None:
        self._stream, self._throttle, self._pace = stream, Throttle(_JSON_SECONDS, clock), Pace(clock)
        self._model = {} if model is None else {"model": model}

    def __call__(self, phase: str, message: str, bytes_: int | None = None, total: int | None = None) -> None:
        """Print one progress event."""
        speed = self._pace(phase, bytes_)
        if not self._throttle.lets(phase, bytes_, total):
            return
        line = {
            "event": "progress",
            **self._model,
            "phase": phase,
            "bytes": self._throttle.bytes,
            "total": self._throttle.total,
            "message": message,
        }
        if speed is not None:
            line["speed"] = speed
        print(json.dumps(line), file=self._stream, flush=True)

    def paused(self, seconds: float) -> None:
        """Print until when, since a line is read some time after it was written."""
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        line = {"event": "pause", **self._model, "until": until.isoformat(timespec="seconds")}
        print(json.dumps(line), file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing is left open."""


class PlainLines:
    """A line of text at every change of phase and every few seconds of a download."""

    def __init__(self, stream: TextIO, model: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._model = stream, model
        self._throttle = Throttle(_PLAIN_SECONDS, clock)

    def __call__(self, phase: str, message: str, bytes_: int | None = None, total: int | None = None) -> None:
        """Print one line."""
        if not self._throttle.lets(phase, bytes_, total):
            return
        told = message if bytes_ is None or phase != "downloading" else f"{mib(bytes_)} of {mib(total or 0)}"
        print(f"{self._model}: {phase}: {told}", file=self._stream, flush=True)

    def paused(self, seconds: float) -> None:
        """The line about waiting has said it."""

    def close(self) -> None:
        """Nothing is left open."""


class Bar:
    """A progress bar for the download, which is erased at its end."""

    def __init__(self, stream: TextIO, model: str) -> None:
        self._stream, self._model = stream, model
        self._bar: tqdm[NoReturn] | None = None

    def __call__(self, phase: str, message: str, bytes_: int | None = None, total: int | None = None) -> None:
        """Move the bar, or say the phase beside it."""
        bar = self._bar
        if bar is None:
            bar = self._bar = tqdm(
                desc=self._model,
                file=self._stream,
                unit="B",
                unit_scale=True,
                leave=False,
                dynamic_ncols=True,
            )
        if phase == "downloading" and bytes_ is not None:
            bar.total = total
            bar.set_postfix_str("", refresh=False)
            bar.n = bytes_
            bar.update(0)
        else:
            bar.set_postfix_str(f"{phase}: {message}" if phase == "waiting" else phase)

    def paused(self, seconds: float) -> None:
        """The bar has said it."""

    def _opened(self) -> "tqdm[NoReturn]":
        return tqdm(
            desc=self._model, file=self._stream, unit="B", unit_scale=True, leave=False, dynamic_ncols=True
        )

    def close(self) -> None:
        """Erase the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
