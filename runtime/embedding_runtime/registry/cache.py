"""The hub's cache layout, read without the hub's library and without the network. Writes nothing.

<cache>/models--org--name/{refs/<revision>, snapshots/<commit>/<file>, blobs/<hash>}; snapshots hold links.
"""

from dataclasses import dataclass
from pathlib import Path

from embedding_runtime.errors import CorruptModelError, NotCachedError
from embedding_runtime.registry.files import needed
from embedding_runtime.registry.reference import ModelRef


@dataclass(frozen=True)
class Snapshot:
    """A model's files on disk: the folder of one commit, the graph and every file that serving needs."""

    ref: ModelRef
    commit: str
    folder: Path
    graph: str
    files: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """The size of all needed files."""
        return sum((self.folder / name).stat().st_size for name in self.files)


def find(cache_dir: Path, ref: ModelRef, graph: str | None) -> Snapshot:
    """The cached snapshot of `ref`.

    Raises NotCachedError when it is not there, CorruptModelError when links point nowhere,
    UnsupportedModelError when its files are no model that can be served.
    """
    home = cache_dir / ref.cache_name
    commit = ref.revision if ref.is_pinned else _commit(home, ref)
    folder = home / "snapshots" / commit
    if not folder.is_dir():
        raise NotCachedError(_missing(cache_dir, ref))
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    )
    chosen, files = needed(names, graph, str(ref))
    for name in files:
        if not (folder / name).exists():
            raise CorruptModelError(
                f"{ref}: {name} is a link to nothing in {folder}; remove the folder and fetch again"
            )
    return Snapshot(ref, commit, folder, chosen, tuple(files))


def _commit(home: Path, ref: ModelRef) -> str:
    try:
        return (home / "refs" / ref.revision).read_text(encoding="ascii").strip()
    except OSError:
        raise NotCachedError(_missing(home.parent, ref)) from None


def _missing(cache_dir: Path, ref: ModelRef) -> str:
    return (
        f"{ref.id} at revision {ref.revision} is not in the cache {cache_dir}; fetch it with "
        "`python -m embedding_runtime prefetch`, or allow the network (HF_HUB_OFFLINE=0)"
    )


def cached_models(cache_dir: Path) -> list[str]:
    """The ids of every model that has a snapshot in the cache, sorted."""
    folders = cache_dir.glob("models--*/snapshots/*")
    return sorted({path.parent.parent.name.removeprefix("models--").replace("--", "/") for path in folders})
