"""A model's files as one archive at an address, known by its SHA-256: fetched, checked, unpacked.

<home>/archives/<sha256>/... is an archive's content, and there as a whole or not at all: it is unpacked
beside that, and renamed. What is unfinished lies under a name that begins with a dot, and is gone on with, or
begun anew, by whoever comes next. The digests of the files stay, so that what was damaged since is noticed.
"""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from embedding_runtime.errors import (
    DigestMismatchError,
    NotCachedError,
    RuntimeFault,
    UnsupportedArchiveError,
)
from embedding_runtime.registry.client import constants, get_session, hf_raise_for_status
from embedding_runtime.registry.digests import digests
from embedding_runtime.registry.download import Blob, download
from embedding_runtime.registry.locks import held
from embedding_runtime.registry.refusals import translate
from embedding_runtime.registry.unpacking import unpack
from embedding_runtime.registry.volume import check_volume
from embedding_runtime.telemetry import logger

_log = logger("archive")

# Hears a phase (downloading, unpacking), the bytes that are there, and those of all where they are known.
Report = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Archive:
    """What to fetch. `token` goes to the address's own host only, as a bearer's."""

    url: str
    sha256: str
    token: str | None = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What a request carries; never shown."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def folder_of(home: Path, sha256: str) -> Path:
    """Where the archive's content lies once it is there."""
    return home / "archives" / sha256


def obtain(archive: Archive, home: Path, report: Report, *, offline: bool = False) -> Path:
    """The folder with the archive's content; no request is made where it is there already, and intact.

    Raises DigestMismatchError, UnsupportedArchiveError, ModelNotFoundError, AccessDeniedError, HubError,
    CacheError, NotCachedError.
    """
    done = folder_of(home, archive.sha256)
    packed = _beside(done, "packed")
    if _is_intact(done):
        with suppress(OSError):  # what a process that was killed between two steps has left
            packed.unlink(missing_ok=True)
        return done
    if offline:
        raise NotCachedError(
            f"{archive.url} is not in {done}, or damaged there, and is not asked for: HF_HUB_OFFLINE is set"
        )
    try:
        _bring(archive, done, packed, report)
    except RuntimeFault:
        raise
    except Exception as error:
        found = translate(error, archive.url, with_token=archive.token is not None)
        if found is None:
            raise
        raise found from error
    return done


def _bring(archive: Archive, done: Path, packed: Path, report: Report) -> None:
    lock, staging = _beside(done, "locks"), _beside(done, "unpacking")
    check_volume(done.parent, 0, archive.url)
    lock.parent.mkdir(exist_ok=True)
    with held(
        lock,
        lambda: _bytes(packed.parent) + _bytes(staging),
        archive.url,
        lambda count: report("downloading", count, None),
    ):
        if _is_intact(done):
            return
        if not packed.exists():
            _fetch(archive, packed, report)
        unpacked = _unpack(packed, staging, lambda count: report("unpacking", count, None))
        _note(unpacked, _beside(done, "digests"))
        _show(staging, done)
        packed.unlink()


def _show(staging: Path, done: Path) -> None:
    """Put what was unpacked in its place, and away what was damaged there."""
    damaged = _beside(done, "damaged")
    shutil.rmtree(damaged, ignore_errors=True)
    if done.exists():
        _log.warning("unpacked again, since it was damaged", folder=str(done))
        damaged.parent.mkdir(exist_ok=True)
        done.rename(damaged)
    staging.rename(done)
    shutil.rmtree(damaged, ignore_errors=True)


def _fetch(archive: Archive, packed: Path, report: Report) -> None:
    size = _size(archive)
    blob = Blob(
        what=archive.url,
        url=archive.url,
        headers=archive.headers,
        path=packed,
        lock=packed.with_name(f"{packed.name}.lock"),
        size=size,
        pinned=True,
    )
    had = blob.partial.stat().st_size if blob.partial.exists() else 0
    check_volume(packed.parent, max(0, (size or 0) - had), archive.url)

    def tell(count: int) -> None:
        report("downloading", count, size)

    try:
        download(blob, tell)
    except DigestMismatchError:
        if not had:
            raise
        # what was put together from two answers may be of two files
        download(blob, tell)


def _size(archive: Archive) -> int | None:
    """The archive's bytes, None where the server does not tell them: asked with its first byte.

    Not by HEAD, which many an address that was signed for a download refuses.
    """
    headers = {**archive.headers, "Accept-Encoding": "identity", "Range": "bytes=0-0"}
    with get_session().stream(
        "GET", archive.url, headers=headers, follow_redirects=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
    ) as response:
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            response.read()
        hf_raise_for_status(response)
        told = response.headers.get("Content-Length", "")
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            told = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(told) if told.isdecimal() else None


def _unpack(packed: Path, staging: Path, report: Callable[[int], None]) -> dict[str, str]:
    """Unpack into the empty folder `staging`; what fails leaves nothing of it."""
    shutil.rmtree(staging, ignore_errors=True)
    staging.parent.mkdir(exist_ok=True)
    try:
        return unpack(packed, staging, report)
    except UnsupportedArchiveError:
        shutil.rmtree(staging, ignore_errors=True)
        packed.unlink(missing_ok=True)  # no other attempt makes more of it
        raise
    except OSError:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _note(known: dict[str, str], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(known), encoding="utf-8")
    fresh.replace(path)


def _is_intact(done: Path) -> bool:
    """Whether the unpacked files are all there and those that the archive held; reads every byte of them."""
    if not done.is_dir():
        return False
    try:
        known: dict[str, str] = dict(json.loads(_beside(done, "digests").read_text(encoding="utf-8")))
        return all(digests(done / name).sha256 == digest for name, digest in known.items())
    except (OSError, ValueError, TypeError):
        return False


def _bytes(folder: Path) -> int:
    """What lies in a folder, for whoever waits for another process."""
    found = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # it may be gone by now
            found += path.lstat().st_size
    return found


def _beside(done: Path, what: str) -> Path:
    return done.parent / f".{what}" / done.name
