"""Threads share malloc's arenas, so that what one of them freed another one uses."""

import platform
import re
import subprocess
import sys

import pytest

_CODE = """
import ctypes, sys, threading
from embedding_runtime.engine.memory import share_arenas

if sys.argv[1] == "shared":
    share_arenas(1.5)
libc = ctypes.CDLL(None)
libc.fdopen.restype = libc.malloc.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
together = threading.Barrier(6)

def allocate():
    together.wait()
    libc.malloc(1000)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = libc.fdopen(1, b"w")
libc.malloc_info(0, file)
libc.fflush(None)
"""


def _arenas(how: str) -> int:
    told = subprocess.run([sys.executable, "-c", _CODE, how], capture_output=True, text=True, check=True)
    return len(re.findall(r"<heap nr=", told.stdout))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_threads_share_arenas() -> None:
    assert _arenas("own") > 2
    assert _arenas("shared") == 2
