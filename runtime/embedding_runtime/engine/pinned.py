"""Host memory that a GPU reads and writes without a copy in between: page-locked, through CUDA's own library.

ONNX Runtime's Python package can compute from such memory, but not allocate it. Without the library it is
ordinary memory, with one more copy inside the driver.
"""

import ctypes
import mmap
import weakref
from collections.abc import Callable

import numpy as np

from embedding_runtime.engine.backend import UInt8
from embedding_runtime.telemetry import logger

_log = logger("cuda")

# By the names under which ONNX Runtime's own preloading has loaded one of them already.
_LIBRARIES = ("libcudart.so.13", "libcudart.so.12")
# Whichever context of the process may use it (cudaHostRegisterPortable).
_PORTABLE = 1

Host = Callable[[int], UInt8]


def ordinary(size: int) -> UInt8:
    """So many bytes of a process's memory, from the beginning of a page."""
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), dtype=np.uint8)


def page_locked() -> Host:
    """What gives page-locked memory; `ordinary` where CUDA's library does not."""
    library = _library()
    if library is None:
        _log.info("no CUDA runtime library, copies go through ordinary memory", tried=list(_LIBRARIES))
        return ordinary

    def locked(size: int) -> UInt8:
        block = ordinary(size)
        address = ctypes.c_void_p(block.ctypes.data)
        code = library.cudaHostRegister(address, ctypes.c_size_t(block.nbytes), ctypes.c_uint(_PORTABLE))
        if code != 0:
            _log.warning("memory cannot be page-locked", bytes=block.nbytes, cuda_error=code)
        else:
            # CUDA keeps the address: what is mapped there next would be taken for this.
            weakref.finalize(block, library.cudaHostUnregister, address)
        return block

    return locked


def _library() -> ctypes.CDLL | None:
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
