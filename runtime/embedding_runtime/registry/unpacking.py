"""An archive (tar, tar.gz, zip) into an empty folder, however hostile it is.

Names are judged as text and links are made last, so that nothing is ever written through a link: what leads
out of the folder cannot do so on the disk either. (Python's own filter for this, `tarfile.data_filter`, is
newer than some Pythons that this runs on, and follows links on the disk.) Owners, modes and times are left.
"""

import errno
import gzip
import hashlib
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from embedding_runtime.errors import UnsupportedArchiveError

_CHUNK_BYTES = 1 << 20
_MOST_HEADER_BYTES = 4 << 20
_MOST_NAME_BYTES, _MOST_PART_BYTES = 1024, 255
_MOST_LINKS = 16

# From https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.16: the end of the list of files, and
# where in it that list's size is.
_ZIP_END, _ZIP_END_BYTES, _ZIP_LIST_SIZE = b"PK\5\6", 22 + (1 << 16), 12

_BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError,
    NotImplementedError, RuntimeError, ValueError, struct.error,
)  # fmt: skip
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}
_TWICE = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}


@dataclass(frozen=True)
class Limits:
    """More than any model has: what is beyond is no model, or meant to fill disk and memory.

    The bytes may be `bytes`, or `ratio` times the archive's own where that is more.
    """

    entries: int = 10_000
    bytes: int = 1 << 30
    ratio: int = 20


def unpack(
    archive: Path, folder: Path, report: Callable[[int], None], limits: Limits | None = None
) -> dict[str, str]:
    """Write the archive's folders, files, and links to its files into `folder`, which is made.

    `report` hears the bytes written so far. Returns the SHA-256 of each file by its path.
    Raises UnsupportedArchiveError, OSError.
    """
    folder.mkdir()
    limits = limits or Limits()
    room = max(limits.bytes, limits.ratio * archive.stat().st_size)
    contents = _Contents(folder, limits.entries, room, report)
    try:
        with archive.open("rb") as file:
            _reader(file)(file, contents)
        contents.link_all()
        return contents.digests
    except _BROKEN as error:
        raise UnsupportedArchiveError(f"the archive cannot be read: {error}") from error
    except OSError as error:
        if error.errno in _TWICE:
            name = Path(error.filename or "").name
            raise UnsupportedArchiveError(f"the archive holds {name!r} twice") from error
        raise


def inside(name: str) -> PurePosixPath:
    """A name in an archive as a path from its root.

    Raises UnsupportedArchiveError where it leads out of it.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not _is_text(name):
        raise UnsupportedArchiveError(
            f"the archive holds {name[:200]!r}, which is no path in it: absolute, with .. or \\, or no UTF-8"
        )
    too_long = len(name.encode()) > _MOST_NAME_BYTES
    if too_long or any(len(part.encode()) > _MOST_PART_BYTES for part in path.parts):
        raise UnsupportedArchiveError(f"the archive holds {name[:200]!r}, whose name is too long")
    return path


def _is_text(name: str) -> bool:
    """Whether a name was UTF-8: what was not holds surrogates, which no message could be written with."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _reader(file: IO[bytes]) -> Callable[[IO[bytes], "_Contents"], None]:
    start = file.read(tarfile.BLOCKSIZE)
    file.seek(0)
    if start.startswith((b"PK\3\4", _ZIP_END)):
        return _unzip
    if start.startswith(b"\x1f\x8b"):
        return _untar_gz
    return _untar


def _untar_gz(file: IO[bytes], contents: "_Contents") -> None:
    with gzip.GzipFile(fileobj=file) as plain:
        _untar(plain, contents)


def _untar(file: IO[bytes] | gzip.GzipFile, contents: "_Contents") -> None:
    bounded: Any = _Bounded(file)  # has as much of a file as reading a tar needs
    with tarfile.open(fileobj=bounded, mode="r:") as archive:
        for member in archive:
            if member.isdir():
                contents.folder(member.name)
            elif member.issym():
                contents.link(member.name, inside(member.name).parent, member.linkname)
            elif member.islnk():
                contents.link(member.name, PurePosixPath(), member.linkname)
            elif member.isfile() and (content := archive.extractfile(member)) is not None:
                contents.file(member.name, content)
            else:
                contents.refuse(member.name)


def _unzip(file: IO[bytes], contents: "_Contents") -> None:
    _check_list(file)
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.is_dir():
                contents.folder(member.filename)
            elif kind not in (0, stat.S_IFREG, stat.S_IFLNK):
                contents.refuse(member.filename)
            else:
                with archive.open(member) as content:
                    if kind == stat.S_IFLNK:
                        target = os.fsdecode(content.read(_MOST_NAME_BYTES + 1))
                        contents.link(member.filename, inside(member.filename).parent, target)
                    else:
                        contents.file(member.filename, content)


def _check_list(file: IO[bytes]) -> None:
    """Refuse a zip whose list of files, which is read into memory as a whole, is far too long."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _ZIP_END_BYTES))
    found = file.read()
    end = found.rfind(_ZIP_END)
    if end >= 0 and len(found) >= end + 22:
        (listed,) = struct.unpack_from("<L", found, end + _ZIP_LIST_SIZE)
        if listed > _MOST_HEADER_BYTES:
            raise UnsupportedArchiveError(f"the archive's list of files has {listed} bytes")
    file.seek(0)


class _Bounded:
    """A file of which nothing large is read at once, as tarfile does where a header says that it is long."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes."""
        if not 0 <= size <= _MOST_HEADER_BYTES:
            raise UnsupportedArchiveError(f"the archive has a header of {size} bytes")
        return self._file.read(size)


class _Contents:
    """What is written of an archive, counted."""

    def __init__(self, folder: Path, most: int, room: int, report: Callable[[int], None]) -> None:
        self._folder, self._most, self._room, self._report = folder, most, room, report
        self._entries, self._written = 0, 0
        self._files: dict[PurePosixPath, str] = {}
        self._links: dict[PurePosixPath, PurePosixPath] = {}

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each file."""
        return {path.as_posix(): digest for path, digest in self._files.items()}

    def refuse(self, name: str) -> None:
        """Raise for what is neither file, folder nor link."""
        raise UnsupportedArchiveError(
            f"the archive holds {name[:200]!r}, which is neither a file nor a folder"
        )

    def folder(self, name: str) -> None:
        """Make a folder."""
        (self._folder / self._counted(name)).mkdir(parents=True, exist_ok=True)

    def file(self, name: str, content: IO[bytes]) -> None:
        """Write a file; it is on the disk then, since nobody looks at it again."""
        path = self._counted(name)
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with target.open("xb") as file:
            while chunk := content.read(_CHUNK_BYTES):
                self._write(file, chunk)
                digest.update(chunk)
            file.flush()
            os.fsync(file.fileno())
        self._files[path] = digest.hexdigest()

    def link(self, name: str, beside: PurePosixPath, target: str) -> None:
        """Note a link, whose target is given from the folder `beside`."""
        path = self._counted(name)
        if path in self._links:
            raise UnsupportedArchiveError(f"the archive holds {path.name!r} twice")
        self._links[path] = _joined(path, beside, target)

    def link_all(self) -> None:
        """Make the links, each to the very file that it means in the end."""
        for path in self._links:
            target = self._target(path)
            link = self._folder / path
            link.parent.mkdir(parents=True, exist_ok=True)
            try:
                link.symlink_to(os.path.relpath(self._folder / target, link.parent))
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._copy(self._folder / target, link)

    def _target(self, path: PurePosixPath) -> PurePosixPath:
        found = path
        for _ in range(_MOST_LINKS):
            if found in self._files:
                return found
            if found not in self._links:
                break
            found = self._links[found]
        raise UnsupportedArchiveError(f"the archive holds the link {str(path)!r} to no file in it")

    def _copy(self, source: Path, target: Path) -> None:
        self._fits(source.stat().st_size)
        shutil.copyfile(source, target)

    def _write(self, file: IO[bytes], chunk: bytes) -> None:
        self._fits(len(chunk))
        file.write(chunk)
        self._report(self._written)

    def _fits(self, count: int) -> None:
        self._written += count
        if self._written > self._room:
            raise UnsupportedArchiveError(
                f"the archive unpacks to more than {self._room} bytes, which no model of its size does"
            )

    def _counted(self, name: str) -> PurePosixPath:
        self._entries += 1
        if self._entries > self._most:
            raise UnsupportedArchiveError(f"the archive holds more than {self._most} files and folders")
        return inside(name)


def _joined(link: PurePosixPath, beside: PurePosixPath, target: str) -> PurePosixPath:
    """Where a link leads, by its text alone."""
    found = list(beside.parts)
    for part in PurePosixPath(target).parts:
        if part == "/" or "\0" in part or (part == ".." and not found):
            raise UnsupportedArchiveError(f"the archive holds the link {str(link)!r}, which leads out of it")
        if part == "..":
            found.pop()
        else:
            found.append(part)
    return PurePosixPath(*found)
