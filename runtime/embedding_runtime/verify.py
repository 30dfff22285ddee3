"""`verify`: read every cached file again and compare it with the digest that names it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from embedding_runtime.errors import CorruptModelError, ModelError
from embedding_runtime.model.graph import facts_of
from embedding_runtime.model.origins import origins
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.registry.cache import CachedRevision, cached
from embedding_runtime.registry.digests import claimed, digests
from embedding_runtime.registry.locks import is_held, lock_of
from embedding_runtime.registry.reference import ModelRef
from embedding_runtime.settings import HubSettings, split_name


def verify(settings: HubSettings, models: Sequence[str]) -> int:
    """Print what is damaged or incomplete of `models` (`id`, `id@revision`), of the whole cache without any.

    0 when nothing is, else 1; a model that was named and is not cached is incomplete.
    """
    cache_dir = settings.cache_dir
    known = {model.id: model.revisions for model in cached(cache_dir)}
    named = [(name, ref) for name in models for ref in _cached_of(name, known)]
    named = named or [(name, ModelRef(name)) for name in _repositories(cache_dir)]
    found = 0
    for label, ref in named:
        # A name without a revision means every one that is there.
        revisions = [
            revision
            for revision in known.get(ref.id, ())
            if not split_name(label)[1] or ref.revision in (revision.commit, *revision.names)
        ]
        unfinished = list(_unfinished(cache_dir, ref))
        faults = [fault for revision in revisions for fault in _faults(revision)] + unfinished
        if not revisions and not unfinished:
            faults.append("not in the cache")
        for fault in dict.fromkeys(faults):
            print(f"{label}: {fault}")
        if not faults:
            print(f"{label}: ok ({_compared(revisions)})")
        found += len(faults)
    if found:
        print("`prefetch MODEL` fetches again what is damaged or incomplete")
    return 1 if found else 0


def _cached_of(name: str, known: Mapping[str, object]) -> list[ModelRef]:
    """Of the repositories that may answer for a name those that are there, else the one of the name."""
    asked = ModelRef.parse(name)
    try:
        refs = [origin.ref for origin in origins(Wanted(asked.id, asked.revision))]
    except ModelError:
        refs = []
    return [ref for ref in refs if ref.id in known] or [asked]


def _repositories(cache_dir: Path) -> list[str]:
    """The ids of all model repositories, also of those without any complete file."""
    homes = sorted(cache_dir.glob("models--*"))
    return [home.name.removeprefix("models--").replace("--", "/") for home in homes]


def _faults(revision: CachedRevision) -> Iterator[str]:
    commit = revision.commit[:12]
    for name in revision.files:
        path = revision.folder / name
        try:
            claim = claimed(path)
            if claim is not None and not digests(path, claim).match(claim):
                yield f"{name} of {commit} is damaged: its content is not that of {claim}"
            elif name.endswith((".onnx", ".safetensors.index.json")):
                yield from _lacking(revision, name)
        except FileNotFoundError:
            yield f"{name} of {commit} is incomplete: it is a link to nothing"
        except OSError as error:
            yield f"{name} of {commit} cannot be read: {error.strerror}"
        except CorruptModelError as error:
            yield f"{name} of {commit} is damaged: {error.message}"


def _lacking(revision: CachedRevision, graph: str) -> Iterator[str]:
    """The files that a graph keeps its tensors in and that are not there."""
    for name in facts_of(revision.folder / graph, graph).external:
        path = PurePosixPath(graph).parent / name
        if not (revision.folder / path).is_file():
            yield f"{graph} of {revision.commit[:12]} is incomplete: {path}, which it needs, is not there"


def _unfinished(cache_dir: Path, ref: ModelRef) -> Iterator[str]:
    for path in sorted((cache_dir / ref.cache_name / "blobs").glob("*.incomplete")):
        digest = path.name.partition(".")[0]
        try:
            if is_held(lock_of(cache_dir, ref.cache_name, digest)):
                continue
            yield f"a download of {digest[:12]} is unfinished, with {path.stat().st_size} bytes"
        except OSError:
            # Where nothing can be locked, nothing is being written either; or it was finished just now.
            if path.exists():
                yield f"a download of {digest[:12]} is unfinished"


def _compared(revisions: Sequence[CachedRevision]) -> str:
    paths = [revision.folder / name for revision in revisions for name in revision.files]
    unnamed = sum(claimed(path) is None for path in paths)
    without = f", {unnamed} of them without a digest to compare with" if unnamed else ""
    return f"{len(paths)} files{without}"
