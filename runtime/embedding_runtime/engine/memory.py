"""The process's memory, and giving it back to the system."""

import asyncio
import ctypes
import gc
import math

# <malloc.h>
_M_ARENA_MAX = -8
_TRIM_SECONDS = 20.0


def share_arenas(cpus: float) -> None:
    """Have the threads of this process and of its forks allocate from few arenas. To be called before there
    are threads.

    glibc gives each thread one of its own, up to eight for a CPU, and each keeps what was freed in it: a
    model that one thread loads and another runs held almost twice its memory. Elsewhere than on glibc nothing
    happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, max(2, math.ceil(cpus)))


def give_back() -> None:
    """Return what was freed to the system: sessions may hang in reference cycles, and glibc keeps free memory
    for later. Elsewhere than on glibc only the first half.
    """
    gc.collect()
    trim()


def trim() -> None:
    """Return what lies free between what is in use to the system; a millisecond where there is much of it."""
    found = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if found is not None:
        found(0)


async def keep_trimmed() -> None:
    """Return what is free to the system three times a minute, until cancelled.

    glibc by itself returns the end of its heap alone: a process grew for as long as larger requests met by
    chance than had met before.
    """
    while True:
        await asyncio.sleep(_TRIM_SECONDS)
        await asyncio.to_thread(trim)
