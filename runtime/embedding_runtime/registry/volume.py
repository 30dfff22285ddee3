"""The volume that the cache lies on: room, and the right to write."""

import errno
import os
import shutil
from pathlib import Path

from embedding_runtime.errors import CacheUnwritableError, DiskFullError, RuntimeFault

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}

# What the volume must keep free beyond the files themselves: links, locks, the file system's own needs.
_SPARE_BYTES = 1 << 20


def check_volume(cache_dir: Path, wanted: int, what: str) -> None:
    """Make the cache's folder; see that `wanted` more bytes can be written to it, for `what`.

    Raises CacheUnwritableError, DiskFullError.
    """
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(cache_dir, error) from error
    if not os.access(cache_dir, os.W_OK | os.X_OK):
        raise unwritable(cache_dir, OSError(errno.EACCES, "permission denied or read-only"))
    free = shutil.disk_usage(cache_dir).free
    if free < wanted + _SPARE_BYTES:
        raise DiskFullError(
            f"{what} needs {mib(wanted)} more on the volume of {cache_dir}, which has {mib(free)} free; "
            f"{_MORE_ROOM}"
        )


def unwritable(path: Path | str, error: OSError) -> RuntimeFault:
    """The error for a file or folder of the cache that cannot be written, and what to do."""
    if error.errno == errno.EROFS:
        advice = "mount the volume for writing, or fetch the model with `prefetch` where it can be written"
    else:
        advice = (
            f"give the volume to that uid, or in a pod set securityContext.fsGroup to {os.getgid()}; another "
            "folder is chosen with HF_HOME"
        )
    return CacheUnwritableError(
        f"cannot write the cache {path} as uid {os.getuid()} gid {os.getgid()}: {error.strerror}; {advice}"
    )


def full(path: Path | str, what: str) -> RuntimeFault:
    """The error for a volume that became full while `what` was written."""
    return DiskFullError(f"no space left for {what} on the cache's volume ({path}); {_MORE_ROOM}")


_MORE_ROOM = (
    "make the volume larger (spec.cache.size), or remove models from it (`prune` removes those that are not "
    "configured)"
)


def mib(count: int) -> str:
    """A number of bytes for a reader."""
    return f"{count / (1 << 20):.1f} MiB"
