"""Ties a child process's life to its parent's, so that a killed supervisor leaves no orphans behind."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent, the process `parent`, ends; kills it now if it has.

    The kernel does it, so it works while a load holds the interpreter's lock. Linux only.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
