"""Archives become folders, and what is hostile in one never reaches the disk."""

import gzip
import hashlib
import io
import stat
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_runtime.errors import UnsupportedArchiveError
from embedding_runtime.registry.unpacking import Limits, unpack

FILES = {"config.json": b"{}", "onnx/model.onnx": b"graph" * 1000}
Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> Member:
    found = tarfile.TarInfo(name)
    found.type, found.size, found.linkname = kind, len(content), target
    return found, content


def tar(path: Path, *members: Member) -> Path:
    with tarfile.open(path, "w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def tar_of_files(path: Path) -> Path:
    return tar(path, *(member(name, content) for name, content in FILES.items()))


def tar_gz(path: Path) -> Path:
    path.write_bytes(gzip.compress(tar_of_files(path).read_bytes()))
    return path


def zip_of_files(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("onnx/", b"")
        for name, content in FILES.items():
            archive.writestr(name, content)
    return path


def zipped(path: Path, name: str, mode: int, content: bytes = b"") -> Path:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("file", b"content")
        archive.writestr(info, content)
    return path


def written(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files(folder)}


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("made", [tar_of_files, tar_gz, zip_of_files])
def test_files_and_folders_are_written_and_counted(tmp_path: Path, made: Callable[[Path], Path]) -> None:
    heard: list[int] = []
    digests = unpack(made(tmp_path / "archive"), tmp_path / "folder", heard.append)
    assert written(tmp_path / "folder") == FILES
    assert digests == {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    assert heard[-1] == sum(map(len, FILES.values()))


def test_a_first_file_of_any_name_does_not_make_a_tar_something_else(tmp_path: Path) -> None:
    unpack(tar(tmp_path / "archive", member("PKG-INFO", b"x")), tmp_path / "folder", lambda _: None)
    assert written(tmp_path / "folder") == {"PKG-INFO": b"x"}


def test_nothing_of_owner_and_mode_is_taken_over(tmp_path: Path) -> None:
    info, content = member("file", b"x")
    info.mode, info.uid = 0o4777, 1
    unpack(tar(tmp_path / "archive", (info, content)), tmp_path / "folder", lambda _: None)
    mode = (tmp_path / "folder/file").stat().st_mode
    assert not mode & (stat.S_ISUID | stat.S_IXUSR | stat.S_IWOTH)


def test_links_lead_to_files_of_the_archive_in_whatever_order(tmp_path: Path) -> None:
    archive = tar(
        tmp_path / "archive",
        member("snapshots/1/model", kind=tarfile.SYMTYPE, target="../../first"),
        member("first", kind=tarfile.SYMTYPE, target="blobs/a"),
        member("hard", kind=tarfile.LNKTYPE, target="blobs/a"),
        member("blobs/a", b"weights"),
    )
    unpack(archive, tmp_path / "folder", lambda _: None)
    (tmp_path / "folder").rename(tmp_path / "elsewhere")
    links = ("snapshots/1/model", "first", "hard", "blobs/a")
    assert written(tmp_path / "elsewhere") == dict.fromkeys(links, b"weights")


def test_a_link_in_a_zip_is_one(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", "link", stat.S_IFLNK | 0o777, b"file")
    unpack(archive, tmp_path / "folder", lambda _: None)
    assert (tmp_path / "folder/link").is_symlink()
    assert (tmp_path / "folder/link").read_bytes() == b"content"


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../outside", "a/../../outside", "a\\..\\b", "a/" * 600 + "b", "x" * 300, "a\udcff"],
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
def test_what_leads_out_is_refused(tmp_path: Path, name: str, kind: bytes) -> None:
    archive = tar(tmp_path / "archive", member(name, kind=kind, target="file"))
    with pytest.raises(UnsupportedArchiveError, match=r"no path in it|too long"):
        unpack(archive, tmp_path / "folder", lambda _: None)
    assert files(tmp_path) == [archive]


PARTS = st.sampled_from(["..", ".", "", "a", "b", "\udc80", "c" * 256])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])


@given(st.lists(st.tuples(NAMES, KINDS, NAMES), max_size=8))
def test_no_archive_reaches_out_of_its_folder(entries: list[tuple[str, bytes, str]]) -> None:
    with tempfile.TemporaryDirectory() as outside:
        folder = Path(outside) / "deep/folder"
        folder.parent.mkdir()
        members = (member(name, b"x" * (kind == tarfile.REGTYPE), kind, to) for name, kind, to in entries)
        archive = tar(Path(outside) / "archive", *members)
        with suppress(UnsupportedArchiveError):
            unpack(archive, folder, lambda _: None)
        links = [path for path in folder.rglob("*") if path.is_symlink()]
        assert all(path.resolve(strict=True).is_relative_to(folder) for path in links)
        assert {path.name for path in Path(outside).iterdir()} == {"archive", "deep"}
        assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/etc/passwd", "leads out of it"),
        ("../../file", "leads out of it"),
        ("missing", "to no file in it"),
        ("folder", "to no file in it"),
        ("folder/loop", "to no file in it"),
    ],
)
def test_a_link_to_anything_but_a_file_of_the_archive_is_refused(
    tmp_path: Path, target: str, words: str
) -> None:
    archive = tar(
        tmp_path / "archive",
        member("folder", kind=tarfile.DIRTYPE),
        member("folder/loop", kind=tarfile.SYMTYPE, target="../link"),
        member("link", kind=tarfile.SYMTYPE, target=target),
    )
    with pytest.raises(UnsupportedArchiveError, match=words):
        unpack(archive, tmp_path / "unpacked", lambda _: None)
    assert not [path for path in (tmp_path / "unpacked").rglob("*") if path.is_symlink()]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = tar(
        tmp_path / "archive",
        member("link", kind=tarfile.SYMTYPE, target="../outside"),
        member("link/file", b"x"),
    )
    with pytest.raises(UnsupportedArchiveError):
        unpack(archive, tmp_path / "unpacked", lambda _: None)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = tar(tmp_path / "archive", member("device", kind=kind))
    with pytest.raises(UnsupportedArchiveError, match="neither a file nor a folder"):
        unpack(archive, tmp_path / "folder", lambda _: None)


def test_a_device_in_a_zip_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", "device", stat.S_IFCHR)
    with pytest.raises(UnsupportedArchiveError, match="neither a file nor a folder"):
        unpack(archive, tmp_path / "folder", lambda _: None)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (member("a", b"1"), member("./a", b"2")),
        (member("a", b"1"), member("a/b", b"2")),
        (member("a/b", b"1"), member("a", b"2")),
        (member("a", b"1"), member("a", kind=tarfile.SYMTYPE, target="b")),
        (member("a", b"1"), member("a", kind=tarfile.DIRTYPE)),
    ],
)
def test_one_name_is_one_thing(tmp_path: Path, first: Member, second: Member) -> None:
    archive = tar(tmp_path / "archive", member("b", b"0"), first, second)
    with pytest.raises(UnsupportedArchiveError, match="twice"):
        unpack(archive, tmp_path / "folder", lambda _: None)


def test_what_grows_beyond_all_measure_is_refused(tmp_path: Path) -> None:
    archive = tar(tmp_path / "archive", member("zeros", bytes(4 << 20)))
    archive.write_bytes(gzip.compress(archive.read_bytes()))
    with pytest.raises(UnsupportedArchiveError, match="more than 1048576 bytes"):
        unpack(archive, tmp_path / "folder", lambda _: None, Limits(bytes=1 << 20))
    assert sum(path.stat().st_size for path in files(tmp_path / "folder")) <= 1 << 20


def test_more_entries_than_a_model_has_are_refused(tmp_path: Path) -> None:
    archive = tar(tmp_path / "archive", *(member(f"{number}") for number in range(4)))
    with pytest.raises(UnsupportedArchiveError, match="more than 3 files"):
        unpack(archive, tmp_path / "folder", lambda _: None, Limits(entries=3))


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    archive = tar(tmp_path / "archive", member("././@LongLink", bytes(5 << 20), tarfile.GNUTYPE_LONGNAME))
    archive.write_bytes(gzip.compress(archive.read_bytes()))
    with pytest.raises(UnsupportedArchiveError, match="header"):
        unpack(archive, tmp_path / "folder", lambda _: None)


def test_a_zip_with_a_list_of_files_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    archive = zip_of_files(tmp_path / "archive")
    content = bytearray(archive.read_bytes())
    struct.pack_into("<L", content, content.rfind(b"PK\5\6") + 12, 1 << 30)
    archive.write_bytes(content)
    with pytest.raises(UnsupportedArchiveError, match="list of files"):
        unpack(archive, tmp_path / "folder", lambda _: None)


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>" * 50, b"\x1f\x8b", b"PK\3\4rest", gzip.compress(b"no tar")]
)
def test_what_is_no_archive_is_told(tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    with pytest.raises(UnsupportedArchiveError, match="cannot be read"):
        unpack(archive, tmp_path / "folder", lambda _: None)


def test_a_damaged_zip_is_told(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", "other", stat.S_IFREG)
    archive.write_bytes(archive.read_bytes().replace(b"content", b"CONTENT"))
    with pytest.raises(UnsupportedArchiveError, match="CRC"):
        unpack(archive, tmp_path / "folder", lambda _: None)


def test_a_full_disk_stays_a_full_disk(tmp_path: Path) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        unpack(tar_of_files(tmp_path / "archive"), tmp_path / "folder", full)
