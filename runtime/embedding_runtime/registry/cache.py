"""The hub's cache layout, read without the hub's library and without the network. Writes nothing.

<cache>/models--org--name/{refs/<revision>, snapshots/<commit>/<file>, blobs/<hash>}; snapshots hold links.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from embedding_runtime.errors import (
    CorruptModelError,
    FolderNotFoundError,
    FolderUnreadableError,
    NotCachedError,
)
from embedding_runtime.registry.files import needed
from embedding_runtime.registry.reference import ModelRef
from embedding_runtime.settings import Precision

# The commit of a model that comes from a local folder.
LOCAL = "local"

_COMMIT = re.compile(r"[\w.-]+")
_PREFETCH = "python -m embedding_runtime prefetch"


@dataclass(frozen=True)
class Snapshot:
    """A model's files on disk: the folder of one commit, the graph and every file that serving needs.

    `name`: what they answer for, where that is not the repository's own.
    """

    ref: ModelRef
    commit: str
    folder: Path
    graph: str
    files: tuple[str, ...]
    name: str | None = None

    @property
    def asked(self) -> ModelRef:
        """What is asked for to have these files."""
        return ModelRef(self.name or self.ref.id, self.ref.revision)

    @property
    def bytes(self) -> int:
        """The size of all needed files."""
        return sum((self.folder / name).stat().st_size for name in self.files)


def find(
    cache_dir: Path,
    ref: ModelRef,
    graph: str | None,
    precision: Precision = "auto",
    name: str | None = None,
) -> Snapshot:
    """The cached snapshot of `ref`, which answers for `name`, where that is not the repository's own.

    Raises NotCachedError when it is not there, CorruptModelError when links point nowhere,
    UnsupportedModelError when its files are no model that can be served.
    """
    commit = find_commit(cache_dir, ref)
    asked = ModelRef(name or ref.id, ref.revision)
    if commit is None:
        raise NotCachedError(
            f"{ref.id} at revision {ref.revision} is not in the cache {cache_dir}; fetch it with "
            f"`{_PREFETCH} {asked}`, or allow the network (HF_HUB_OFFLINE=0)"
        )
    folder = home_of(cache_dir, ref) / "snapshots" / commit
    chosen, files = needed(_names(folder), graph, str(ref), precision)
    if lost := [name for name in files if not (folder / name).exists()]:
        raise CorruptModelError(
            f"{ref}: {', '.join(lost)} is a link to nothing in {folder}; fetch the model again with "
            f"`{_PREFETCH} {asked}`",
            damaged=lost,
        )
    return Snapshot(ref, commit, folder, chosen, tuple(files), name)


def home_of(cache_dir: Path, ref: ModelRef) -> Path:
    """The folder of a repository in the cache, whether it is there or not.

    A hub takes ids in upper and lower case for the same, so that other clients may have spelt it otherwise.
    """
    home = cache_dir / ref.cache_name
    if home.is_dir():
        return home
    spelt = ref.cache_name.lower()
    return next((path for path in sorted(cache_dir.glob("models--*")) if path.name.lower() == spelt), home)


def find_commit(cache_dir: Path, ref: ModelRef) -> str | None:
    """The commit that the cache knows `ref` as, when it holds a snapshot of it."""
    home = home_of(cache_dir, ref)
    commit = ref.revision
    if not ref.is_pinned:
        try:
            commit = (home / "refs" / ref.revision).read_text(encoding="ascii").strip() if ref.is_safe else ""
        except (OSError, UnicodeDecodeError):
            return None
    is_there = bool(_COMMIT.fullmatch(commit)) and (home / "snapshots" / commit).is_dir()
    return commit if is_there else None


def find_folder(folder: Path, name: str, graph: str | None, precision: Precision = "auto") -> Snapshot:
    """The snapshot that a local folder is; its commit is `local`.

    Raises FolderNotFoundError, FolderUnreadableError, UnsupportedModelError.
    """
    chosen, files = needed(_names_in(folder, name), graph, name, precision)
    for path in (folder / file for file in files):
        if path.exists() and not os.access(path, os.R_OK):
            raise _unreadable(name, path)
    return Snapshot(ModelRef(name), LOCAL, folder, chosen, tuple(files))


def _names_in(folder: Path, name: str) -> list[str]:
    """Every file of somebody's folder, which, unlike a cache, may be missing or closed to us."""
    found = []

    def refuse(error: OSError) -> None:
        raise error

    try:
        for path, _, names in os.walk(folder, onerror=refuse):
            found += [(Path(path) / name).relative_to(folder).as_posix() for name in names]
    except (FileNotFoundError, NotADirectoryError):
        raise FolderNotFoundError(
            f"404: {name} is to come from the folder {folder}, which does not exist"
        ) from None
    except PermissionError as error:
        raise _unreadable(name, Path(error.filename)) from None
    return sorted(found)


def _unreadable(name: str, path: Path) -> FolderUnreadableError:
    return FolderUnreadableError(
        f"{name}: {path} may not be read by uid {os.getuid()} gid {os.getgid()}; make it readable to them"
    )


def _names(folder: Path) -> list[str]:
    """Every file of a snapshot, also those that are links to nothing."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    )


@dataclass(frozen=True)
class CachedRevision:
    """One commit of a model in the cache. `names`: the branches and tags that mean it, sorted."""

    commit: str
    names: tuple[str, ...]
    folder: Path

    @property
    def files(self) -> tuple[str, ...]:
        """Its files as paths inside the repository, links to nothing included."""
        return tuple(_names(self.folder))

    @property
    def bytes(self) -> int:
        """The size of its files; what is a link to nothing counts nothing."""
        paths = (self.folder / name for name in self.files)
        return sum(path.stat().st_size for path in paths if path.exists())


@dataclass(frozen=True)
class CachedModel:
    """A model of which the cache holds at least one commit."""

    id: str
    revisions: tuple[CachedRevision, ...]


def cached(cache_dir: Path) -> list[CachedModel]:
    """Every model that has a snapshot in the cache, by id; empty where there is no cache.

    Tells what lies there, not whether it is complete or can be served. Raises nothing: what cannot be read
    is not there.
    """
    models = []
    for home in sorted(cache_dir.glob("models--*")):
        names = _references(home)
        revisions = tuple(
            CachedRevision(folder.name, tuple(sorted(names.get(folder.name, ()))), folder)
            for folder in sorted(home.glob("snapshots/*"))
            if folder.is_dir()
        )
        if revisions:
            models.append(CachedModel(home.name.removeprefix("models--").replace("--", "/"), revisions))
    return models


def _references(home: Path) -> dict[str, list[str]]:
    """Commit to the branches and tags that mean it."""
    found: dict[str, list[str]] = {}
    for path in (home / "refs").rglob("*"):
        try:
            commit = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        found.setdefault(commit, []).append(path.relative_to(home / "refs").as_posix())
    return found
