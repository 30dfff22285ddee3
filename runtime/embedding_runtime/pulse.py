"""Signs of life of the engine process, in a small file that the supervisor maps as well.

All times are seconds of CLOCK_MONOTONIC, which all processes of a machine share. The file survives the
engine, so that its successor's signs go to the same place. What they mean is in `hung`.
"""

import mmap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_BEAT, _BATCH, _BUILD = range(3)
_SIZE = 3 * 8

# An engine that was just started reads its libraries first, on a busy machine for a while.
_FIRST_BEAT_SECONDS = 60.0


@dataclass(frozen=True)
class Signs:
    """`beat`: when the event loop last ran, 0 before the first time. `batch`, `build`: when what runs now has
    to be done, 0 where nothing runs.
    """

    beat: float
    batch: float
    build: float


def hung(signs: Signs, started: float, now: float, patience: float) -> str | None:
    """What an engine that was started at `started` hangs in, None while it lives. Pure.

    Building a session holds the interpreter's lock, so that the event loop stands still meanwhile.
    """
    if signs.batch and now > signs.batch:
        return "a batch that does not end"
    if signs.build:
        return "a session that does not get built" if now > signs.build else None
    if not signs.beat:
        return "its start" if now - started > max(patience, _FIRST_BEAT_SECONDS) else None
    return "its event loop" if now - signs.beat > patience else None


class Pulse:
    """The file's values: three doubles, each of which is written and read in one piece."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._values = memoryview(mmap.mmap(file.fileno(), _SIZE)).cast("d")

    @classmethod
    def create(cls, path: Path) -> Self:
        """A new file at `path`, with no sign of life in it."""
        path.write_bytes(bytes(_SIZE))
        return cls(path)

    def read(self) -> Signs:
        """The signs as they are now."""
        return Signs(*(self._get(at) for at in (_BEAT, _BATCH, _BUILD)))

    def forget(self) -> None:
        """Begin again, for another engine."""
        for at in (_BATCH, _BUILD, _BEAT):
            self._set(at, 0.0)

    def beat(self) -> None:
        """The event loop runs."""
        self._set(_BEAT, time.monotonic())

    @contextmanager
    def computing(self, seconds: float) -> Iterator[None]:
        """The block is a batch, which hangs when it takes longer than so many seconds."""
        self._set(_BATCH, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._set(_BATCH, 0.0)

    @contextmanager
    def building(self, seconds: float) -> Iterator[None]:
        """The block builds a session, which hangs when it takes longer than so many seconds."""
        self._set(_BUILD, time.monotonic() + seconds)
        try:
            yield
        finally:
            # In this order: nobody may see an event loop that stood still, and no reason for it.
            self.beat()
            self._set(_BUILD, 0.0)

    def _get(self, at: int) -> float:
        return self._values[at]

    def _set(self, at: int, value: float) -> None:
        self._values[at] = value
