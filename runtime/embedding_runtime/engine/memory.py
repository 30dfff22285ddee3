"""The process's memory, and giving it back to the system."""

import ctypes
import gc


def give_back() -> None:
    """Return what was freed to the system: sessions may hang in reference cycles, and glibc keeps free memory
    for later. Elsewhere than on glibc only the first half.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
