"""The hub over the network: what a repository holds, and its needed files into the cache.

huggingface_hub reads its environment when it is imported, so this module imports it first, after telemetry
(which also asks the hub for a list of no use here) and the Xet protocol (no progress, no plain proxies) are
switched off.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from embedding_runtime.errors import CacheUnwritableError, DiskFullError, HubUnreachableError, InternalError
from embedding_runtime.registry.cache import Snapshot
from embedding_runtime.registry.files import needed
from embedding_runtime.registry.reference import ModelRef
from embedding_runtime.telemetry import logger

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_XET"] = "1"

from huggingface_hub import HfApi, hf_hub_download

from embedding_runtime.registry.translation import translate

_INFO_TIMEOUT_SECONDS = 10.0
_log = logger("hub")

# What the volume must keep free beyond the files themselves: links, locks, the file system's own needs.
_SPARE_BYTES = 1 << 20

_SHA256 = re.compile(r"[0-9a-f]{64}")

Report = Callable[[int, int | None], None]


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository: its size in bytes, and its SHA-256 where the hub tells one."""

    name: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class Plan:
    """What to fetch: the commit, the graph, every needed file; and everything else the repository holds."""

    ref: ModelRef
    commit: str
    graph: str
    files: tuple[RemoteFile, ...]
    others: tuple[RemoteFile, ...] = ()

    @property
    def total(self) -> int:
        """Bytes of all needed files."""
        return sum(file.size for file in self.files)

    def including(self, names: Iterable[str]) -> "Plan":
        """The same plan with those of the repository's other files that have these names."""
        wanted = set(names)
        more = tuple(file for file in self.others if file.name in wanted)
        rest = tuple(file for file in self.others if file.name not in wanted)
        return replace(self, files=self.files + more, others=rest)


class Hub:
    """One hub endpoint, one token, one cache folder."""

    def __init__(self, endpoint: str, token: str | None, cache_dir: Path) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._token: str | bool = token or False
        self._cache_dir = cache_dir

    def plan(self, ref: ModelRef, graph: str | None) -> Plan:
        """Ask the hub what `ref` is and choose what to fetch.

        Raises ModelNotFoundError, RevisionNotFoundError, AccessDeniedError, UnsupportedModelError, HubError.
        """
        api = HfApi(endpoint=self.endpoint, token=self._token)
        try:
            info = api.model_info(
                ref.id, revision=ref.revision, files_metadata=True, timeout=_INFO_TIMEOUT_SECONDS
            )
        except Exception as error:
            raise self._translated(error, ref) from error
        if info.sha is None:
            raise InternalError(f"{self.endpoint} names no commit for {ref}")
        known = {
            entry.rfilename: RemoteFile(
                entry.rfilename, entry.size or 0, entry.lfs.sha256 if entry.lfs is not None else None
            )
            for entry in info.siblings or []
        }
        chosen, names = needed(known, graph, str(ref))
        others = tuple(file for name, file in known.items() if name not in names)
        return Plan(ref, info.sha, chosen, tuple(known[name] for name in names), others)

    def fetch(self, plan: Plan, report: Report) -> Snapshot:
        """Bring the plan's files into the cache; `report` hears (bytes had, bytes in all) as they arrive.

        Raises DiskFullError before the first byte when the volume is too small, CacheUnwritableError,
        HubError, also when a file's hash is not the hub's.
        """
        folder = self._cache_dir / plan.ref.cache_name / "snapshots" / plan.commit
        missing = [file for file in plan.files if not (folder / file.name).exists()]
        self._check_volume(plan.ref, sum(file.size for file in missing))
        had = plan.total - sum(file.size for file in missing)
        report(had, plan.total)
        for file in missing:
            self._fetch_one(plan, file, partial(_report_sum, report, had, plan.total))
            had += file.size
            report(had, plan.total)
        self._remember(plan)
        return Snapshot(plan.ref, plan.commit, folder, plan.graph, tuple(file.name for file in plan.files))

    def _fetch_one(self, plan: Plan, file: RemoteFile, report: Callable[[int], None]) -> None:
        try:
            path = hf_hub_download(
                plan.ref.id,
                file.name,
                revision=plan.commit,
                cache_dir=self._cache_dir,
                endpoint=self.endpoint,
                token=self._token,
                tqdm_class=_counter(report),
            )
        except Exception as error:
            raise self._translated(error, plan.ref) from error
        _verify(Path(path), file, plan.ref)

    def _remember(self, plan: Plan) -> None:
        """Note which commit the branch meant, as the hub client does, so that it is found offline."""
        if plan.ref.is_pinned:
            return
        note = self._cache_dir / plan.ref.cache_name / "refs" / plan.ref.revision
        fresh = note.with_name(f"{note.name}.{os.getpid()}")
        try:
            if note.exists() and note.read_text(encoding="ascii") == plan.commit:
                return
            note.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(plan.commit, encoding="ascii")
            fresh.replace(note)
        except OSError as error:
            # The files are there, and are found by their commit; only this branch is not known offline.
            _log.warning("cannot note the branch's commit", path=str(note), error=str(error))

    def _check_volume(self, ref: ModelRef, wanted: int) -> None:
        if not wanted:
            return
        try:
            self._cache_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheUnwritableError(self._unwritable(error.strerror)) from error
        if not os.access(self._cache_dir, os.W_OK | os.X_OK):
            raise CacheUnwritableError(self._unwritable("permission denied or read-only"))
        free = shutil.disk_usage(self._cache_dir).free
        if free < wanted + _SPARE_BYTES:
            raise DiskFullError(
                f"{ref} needs {_mib(wanted)} more on the volume of {self._cache_dir}, which has {_mib(free)} "
                "free; make the volume larger (spec.cache.size) or remove models from it"
            )

    def _unwritable(self, why: str | None) -> str:
        return (
            f"cannot write the cache {self._cache_dir} as uid {os.getuid()} gid {os.getgid()}: {why}; give "
            f"the volume to that uid, or in a pod set securityContext.fsGroup to {os.getgid()}"
        )

    def _translated(self, error: Exception, ref: ModelRef) -> Exception:
        return translate(error, ref, self.endpoint) or error


def _verify(path: Path, file: RemoteFile, ref: ModelRef) -> None:
    """Compare a fetched file with the SHA-256 that the hub tells: in its listing, or as the blob's name."""
    blob = path.resolve()
    expected = file.sha256 or (blob.name if _SHA256.fullmatch(blob.name) else None)
    if expected is None or (found := _sha256(blob)) == expected:
        return
    # The blob goes as well as the link, or the next attempt would find it again.
    blob.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    raise HubUnreachableError(
        f"{ref}: {file.name} arrived damaged: its SHA-256 is {found}, the hub says {expected}"
    )


def _report_sum(report: Report, had: int, total: int, count: int) -> None:
    report(had + count, total)


def _counter(report: Callable[[int], None]) -> type[Any]:
    """A class with as much of tqdm's interface as the hub client uses; it only counts."""

    class Counter:
        def __init__(self, *_: object, initial: int = 0, **__: object) -> None:
            self.n = initial

        def update(self, count: float | None = 1) -> None:
            self.n += int(count or 0)
            report(self.n)

        def close(self) -> None: ...

        def refresh(self) -> None: ...

        def __enter__(self) -> Self:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None: ...

    return Counter


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
