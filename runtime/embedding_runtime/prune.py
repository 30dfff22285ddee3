"""`prune`: remove from the cache what no configured model uses.

Only model repositories are looked at: data sets and spaces of other users of the cache stay.
"""

import errno
import itertools
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from huggingface_hub import HFCacheInfo, scan_cache_dir

from embedding_runtime.errors import ModelError
from embedding_runtime.model.origins import origins
from embedding_runtime.model.shelf import entries
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.registry.cache import find_commit, home_of
from embedding_runtime.registry.locks import is_held, lock_of, tried
from embedding_runtime.registry.reference import ModelRef
from embedding_runtime.registry.volume import mib, unwritable
from embedding_runtime.service.configured import configured
from embedding_runtime.settings import ServeSettings


def prune(settings: ServeSettings, *, dry_run: bool) -> int:
    """Remove models, revisions, prepared graphs and unfinished downloads that nothing needs; print what; the
    exit code.

    Kept are the default models, the default reranker also where it is loaded on first use, and those of
    MODELS_CONFIG, each at its revision, with the graphs prepared of them; and what a running download holds.
    Raises CacheUnwritableError.
    """
    cache_dir = settings.cache_dir
    if not cache_dir.is_dir():
        print(f"nothing to remove: {cache_dir} does not exist")
        return 0
    kept = _kept(settings)
    freed = 0
    try:
        for what, size in [
            *_unfinished(cache_dir, dry_run),
            *_unused(cache_dir, kept, dry_run),
            *_prepared(settings, kept, dry_run),
        ]:
            print(f"{'would remove' if dry_run else 'removed'} {what}: {mib(size)}")
            freed += size
    except OSError as error:
        raise unwritable(error.filename or cache_dir, error) from error
    print(f"{'would free' if dry_run else 'freed'} {mib(freed)}" if freed else "nothing to remove")
    return 0


def _kept(settings: ServeSettings) -> dict[str, set[str]]:
    """Folder name of each repository that is in use, and the commits of it that are."""
    named = configured(settings)
    kept: dict[str, set[str]] = {}
    for wanted in [*named.defaults.values(), *named.lazy.values(), *named.named.values()]:
        if wanted.folder is None:
            for ref in _repositories_of(wanted):
                commit = find_commit(settings.cache_dir, ref)
                home = home_of(settings.cache_dir, ref).name
                kept.setdefault(home, set()).update([commit] if commit else [])
    return kept


def _repositories_of(wanted: Wanted) -> list[ModelRef]:
    """Each repository that may answer for a model; none for one that is not served."""
    try:
        return [origin.ref for origin in origins(wanted)]
    except ModelError:
        return []


def _unfinished(cache_dir: Path, dry_run: bool) -> Iterator[tuple[str, int]]:
    for path in sorted(cache_dir.glob("models--*/blobs/*.incomplete")):
        repository, digest = path.parent.parent.name, path.name.partition(".")[0]
        # Held until it is gone, so that no process begins to go on with it meanwhile.
        with tried(lock_of(cache_dir, repository, digest)) as is_free:
            if not is_free or not path.exists():  # it may have been finished just now
                continue
            size = path.stat().st_size
            if not dry_run:
                path.unlink()
        yield f"an unfinished download of {_id(repository)}", size


def _unused(cache_dir: Path, kept: dict[str, set[str]], dry_run: bool) -> Iterator[tuple[str, int]]:
    scan = scan_cache_dir(cache_dir)
    scanned = set()
    for repository in sorted(scan.repos, key=lambda each: each.repo_path):
        if repository.repo_type != "model":
            continue
        name = repository.repo_path.name
        scanned.add(name)
        unused = [
            each.commit_hash for each in repository.revisions if each.commit_hash not in kept.get(name, ())
        ]
        if not unused or _is_being_fetched(cache_dir, name):
            continue
        # A scan of its own for each: a commit is looked for in every repository of a scan.
        own = replace(scan, repos=frozenset([repository]))
        strategy = HFCacheInfo.delete_revisions(own, *unused)
        if not dry_run:
            strategy.execute()
            _check_gone([*strategy.repos, *strategy.snapshots])
        whole = len(unused) == len(repository.revisions)
        what = "" if whole else f" at {', '.join(commit[:12] for commit in sorted(unused))}"
        yield f"{_id(name)}{what}", strategy.expected_freed_size
    yield from _broken(cache_dir, {*scanned, *kept}, dry_run)


def _check_gone(paths: Sequence[Path]) -> None:
    """The hub client logs what it cannot delete and goes on; here that is a failure."""
    for path in paths:
        if path.exists():
            raise PermissionError(errno.EACCES, "what it holds cannot be deleted", str(path))


def _prepared(settings: ServeSettings, kept: dict[str, set[str]], dry_run: bool) -> Iterator[tuple[str, int]]:
    """Graphs made of what is not kept. Of folders the name is all that is known."""
    folders = {each.name for each in configured(settings).named.values() if each.folder is not None}
    commits = set().union(*kept.values())
    for home, model, commit in itertools.chain.from_iterable(map(entries, settings.prepared_dirs)):
        if model in folders or commit in commits:
            continue
        size = sum(path.stat().st_size for path in home.iterdir())
        if not dry_run:
            shutil.rmtree(home)
        yield f"the prepared graph of {model} at {commit[:12]}", size


def _broken(cache_dir: Path, others: Collection[str], dry_run: bool) -> Iterator[tuple[str, int]]:
    """Repositories that the hub client's scan cannot read, such as those of a download that broke off."""
    for home in sorted(cache_dir.glob("models--*")):
        if home.name in others or _is_being_fetched(cache_dir, home.name):
            continue
        size = sum(
            path.stat().st_size for path in home.rglob("*") if path.is_file() and not path.is_symlink()
        )
        if not dry_run:
            shutil.rmtree(home)
        yield f"{_id(home.name)}, which is incomplete", size


def _is_being_fetched(cache_dir: Path, repository: str) -> bool:
    return any(is_held(lock) for lock in (cache_dir / ".locks" / repository).glob("*.lock"))


def _id(repository: str) -> str:
    return repository.removeprefix("models--").replace("--", "/")
