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


_HOLES = """
import asyncio, ctypes, re
from embedding_runtime.engine import memory

def resident():
    with open("/proc/self/status") as file:
        return int(re.search(r"VmRSS:\\s+(\\d+)", file.read())[1])

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
blocks = [libc.malloc(16384) for _ in range(4000)]
for block in blocks:
    ctypes.memset(block, 1, 16384)
for at, block in enumerate(blocks):
    if at % 8:  # what stays keeps glibc from returning what lies below it
        libc.free(block)
full = resident()

async def run():
    memory._TRIM_SECONDS = 0.01
    task = asyncio.create_task(memory.keep_trimmed())
    for _ in range(1000):
        await asyncio.sleep(0.01)
        if full - resident() > 40000:
            break
    task.cancel()
    print(full - resident())

asyncio.run(run())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_what_is_free_between_what_is_in_use_goes_back_to_the_system() -> None:
    told = subprocess.run([sys.executable, "-c", _HOLES], capture_output=True, text=True, check=True)
    assert int(told.stdout) > 40_000
