"""Who is fetching a blob: the hub client's own locks, so that it and we do not fetch the same at once."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.utils import WeakFileLock

from embedding_runtime.errors import HubUnreachableError

# Another process that downloads the same file and brings nothing for so long is not waited for any longer.
_STALL_SECONDS = 120.0
_LOOK_SECONDS = 1.0
_TRY_SECONDS = 0.05


def lock_of(cache_dir: Path, repository: str, digest: str) -> Path:
    """The lock of one blob of a repository's folder (`models--org--name`)."""
    return cache_dir / ".locks" / repository / f"{digest}.lock"


def partial_of(blob: Path) -> Path:
    """Where the unfinished file of a blob lies."""
    return blob.with_name(f"{blob.name}.incomplete")


@contextmanager
def held(lock: Path, progress: Callable[[], int], what: str, report: Callable[[int], None]) -> Iterator[None]:
    """Hold the lock; wait while another process holds it and `progress`, in bytes, grows.

    Raises HubUnreachableError when it does not grow any more; OSError.
    """
    had, since = -1, time.monotonic()
    while True:
        lease = WeakFileLock(lock, timeout=_LOOK_SECONDS)
        try:
            lease.__enter__()
            break
        except TimeoutError:
            there, now = progress(), time.monotonic()
            if there != had:
                had, since = there, now
                report(there)
            elif now - since > _STALL_SECONDS:
                raise HubUnreachableError(
                    f"another process has been fetching {what} for {_STALL_SECONDS:.0f} s without any "
                    f"progress; end it, it holds {lock}"
                ) from None
    try:
        yield
    finally:
        lease.__exit__(None, None, None)


@contextmanager
def tried(lock: Path) -> Iterator[bool]:
    """Hold the lock if no process holds it now; tells whether that is so.

    Raises OSError where the cache cannot be written: a lock can only be tried.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    lease = WeakFileLock(lock, timeout=_TRY_SECONDS)
    try:
        lease.__enter__()
    except TimeoutError:
        yield False
        return
    try:
        yield True
    finally:
        lease.__exit__(None, None, None)


def is_held(lock: Path) -> bool:
    """Whether a process is fetching the blob of this lock now.

    Raises OSError as `tried` does.
    """
    if not lock.exists():
        return False
    with tried(lock) as is_free:
        return not is_free
