"""One file from the hub into the cache's `blobs`: resumed, checked, then published by one rename.

The hub client's own download begins anew after every interruption, since its unfinished files have random
names. Here the unfinished file is `<digest>.incomplete`; whoever holds the hub client's lock of that blob
goes on where it ends.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import httpx2

from embedding_runtime.errors import DigestMismatchError, HubUnreachableError
from embedding_runtime.registry.client import constants, get_session, hf_raise_for_status
from embedding_runtime.registry.digests import digests, is_digest
from embedding_runtime.registry.locks import held, partial_of
from embedding_runtime.registry.volume import NO_SPACE
from embedding_runtime.telemetry import logger

_log = logger("download")

# So often in a row without _PROGRESS_BYTES more, and the download has failed.
_ATTEMPTS = 3
_PAUSE_SECONDS = 1.0
_PROGRESS_BYTES = 1 << 16

# A connection that brings less than this in that time is as good as one that hangs.
_STALL_BYTES = 1 << 12
_STALL_SECONDS = 30.0

_INTERRUPTIONS = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)


@dataclass(frozen=True)
class Blob:
    """Where a file comes from and where it goes. `headers` carry the token, so they are never shown.

    `pinned`: who asks for the file has said its digest, so that another content is another file, no damage.
    """

    what: str
    url: str
    headers: dict[str, str]
    path: Path
    lock: Path
    size: int | None
    pinned: bool = False

    @property
    def partial(self) -> Path:
        """The unfinished file."""
        return partial_of(self.path)


def download(blob: Blob, report: Callable[[int], None], *, suspect: bool = False) -> None:
    """Have the blob at its path; `report` hears the bytes of it that are there.

    `suspect`: what lies there may be damaged, so it is read first. Safe for several processes at once.
    Raises HubUnreachableError when it arrives damaged or another process hangs with it, DigestMismatchError
    when it is pinned and another; OSError and the hub client's own exceptions.
    """
    blob.path.parent.mkdir(parents=True, exist_ok=True)
    blob.lock.parent.mkdir(parents=True, exist_ok=True)
    with held(blob.lock, lambda: _size(blob.partial), blob.what, report):
        if blob.path.exists():
            is_whole = blob.size is None or _size(blob.path) == blob.size
            if is_whole and (not suspect or fault_of(blob.path, blob.path.name, blob.size) is None):
                return
            blob.path.unlink()
        try:
            _fill(blob, report)
        except OSError as error:
            if error.errno in NO_SPACE:
                blob.partial.unlink(missing_ok=True)
            raise
        if wrong := fault_of(blob.partial, blob.path.name, blob.size):
            blob.partial.unlink(missing_ok=True)
            if blob.pinned:
                raise DigestMismatchError(f"{blob.what} is another file: {wrong}")
            raise HubUnreachableError(f"{blob.what} arrived damaged: {wrong}; a proxy in between may do that")
        blob.partial.replace(blob.path)


def fault_of(path: Path, digest: str, size: int | None) -> str | None:
    """What is wrong with the file at `path`, given the size and the digest that it should have.

    None when nothing is, as far as these are known. Raises OSError.
    """
    found = path.stat().st_size
    if size is not None and found != size:
        return f"it has {found} bytes and should have {size}"
    if not is_digest(digest) or (had := digests(path, digest)).match(digest):
        return None
    return f"its digest is {had.git or had.sha256} and should be {digest}"


def _fill(blob: Blob, report: Callable[[int], None]) -> None:
    """Complete the unfinished file, going on after interruptions."""
    fruitless = 0
    while True:
        had = _size(blob.partial)
        if blob.size is not None and had > blob.size:
            blob.partial.unlink()
            had = 0
        if had and (had == blob.size or (blob.size is None and _is_whole(blob))):
            return
        try:
            _stream(blob, had, report)
        except _INTERRUPTIONS as error:
            fruitless = 0 if _size(blob.partial) - had >= _PROGRESS_BYTES else fruitless + 1
            if fruitless >= _ATTEMPTS:
                raise
            told = str(error) or type(error).__name__
            _log.info("a download was interrupted", file=blob.what, bytes=_size(blob.partial), error=told)
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _is_whole(blob: Blob) -> bool:
    """Whether the unfinished file is the whole of one whose size nobody knows, by its digest."""
    return is_digest(blob.path.name) and fault_of(blob.partial, blob.path.name, None) is None


def _stream(blob: Blob, had: int, report: Callable[[int], None]) -> None:
    """Append what is missing after `had` bytes; from the start where the server does not do ranges."""
    headers = {**blob.headers, "Accept-Encoding": "identity"}
    if had:
        headers["Range"] = f"bytes={had}-"
    # httpx2 leaves the token out when a redirect leads to another origin.
    with get_session().stream(
        "GET", blob.url, headers=headers, follow_redirects=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
    ) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            blob.partial.unlink(missing_ok=True)
            raise httpx2.RemoteProtocolError(f"the hub has no byte {had}")
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            response.read()
        hf_raise_for_status(response)
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {had}-")
        if not (had and response.status_code == HTTPStatus.PARTIAL_CONTENT and goes_on):
            had = 0
        with blob.partial.open("ab" if had else "wb") as file:
            _copy(response, file, had, report)
        if blob.size is not None and _size(blob.partial) < blob.size:
            raise httpx2.RemoteProtocolError("the answer ended before the file did")


def _copy(response: httpx2.Response, file: BinaryIO, had: int, report: Callable[[int], None]) -> None:
    since, then = time.monotonic(), had
    report(had)
    for chunk in response.iter_bytes():
        file.write(chunk)
        file.flush()  # so that whoever goes on after a kill has all that came
        had += len(chunk)
        report(had)
        if time.monotonic() - since > _STALL_SECONDS:
            if had - then < _STALL_BYTES:
                raise httpx2.ReadTimeout(f"less than {_STALL_BYTES} bytes in {_STALL_SECONDS:.0f} s")
            since, then = time.monotonic(), had


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
