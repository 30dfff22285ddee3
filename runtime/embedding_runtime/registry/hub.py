"""The hub over the network: what a repository holds, and its needed files into the cache."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from embedding_runtime.errors import HubUnreachableError, InternalError, RevisionNotFoundError
from embedding_runtime.registry.cache import Snapshot
from embedding_runtime.registry.client import (
    HfApi,
    build_hf_headers,
    constants,
    get_session,
    hf_hub_url,
    hf_raise_for_status,
)
from embedding_runtime.registry.download import Blob, download
from embedding_runtime.registry.files import needed
from embedding_runtime.registry.locks import lock_of, partial_of
from embedding_runtime.registry.plan import Plan, RemoteFile, Report
from embedding_runtime.registry.reference import ModelRef
from embedding_runtime.registry.translation import translate
from embedding_runtime.registry.volume import check_volume
from embedding_runtime.settings import Precision
from embedding_runtime.telemetry import logger

_INFO_TIMEOUT_SECONDS = 10.0
_REDIRECTS = 5
_BLOB_NAME = re.compile(r"[\w-][\w.-]*")
_log = logger("hub")

# What a file system without symbolic links says.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}


class Hub:
    """One hub endpoint, one token, one cache folder."""

    def __init__(self, endpoint: str, token: str | None, cache_dir: Path) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._token: str | bool = token or False
        self._cache_dir = cache_dir

    def plan(self, ref: ModelRef, graph: str | None, precision: Precision = "auto") -> Plan:
        """Ask the hub what `ref` is and choose what to fetch.

        Raises ModelNotFoundError, RevisionNotFoundError, AccessDeniedError, UnsupportedModelError, HubError.
        """
        if not ref.is_safe:
            raise RevisionNotFoundError(f"404: {ref.id} has no revision {ref.revision!r} on {self.endpoint}")
        api = HfApi(endpoint=self.endpoint, token=self._token)
        try:
            info = api.model_info(
                ref.id, revision=ref.revision, files_metadata=True, timeout=_INFO_TIMEOUT_SECONDS
            )
        except Exception as error:
            raise self._translated(error, ref) from error
        if info.sha is None:
            raise InternalError(f"{self.endpoint} names no commit for {ref}")
        known = {entry.rfilename: _remote(entry) for entry in info.siblings or []}
        chosen, names = needed(known, graph, str(ref), precision)
        others = tuple(file for name, file in known.items() if name not in names)
        plan = Plan(ref, info.sha, chosen, tuple(known[name] for name in names), others)
        return self._identified(plan)

    def including(self, plan: Plan, names: Collection[str]) -> Plan:
        """The plan with further files of the repository, as far as it has them.

        Raises HubError.
        """
        return self._identified(plan.including(names))

    def fetch(self, plan: Plan, report: Report, suspects: Collection[str] = ()) -> Path:
        """Bring the plan's files into the cache's blobs; `report` hears (bytes had, bytes in all).

        `suspects`: files that may lie there damaged, to be read and fetched again if so. Returns the path of
        the graph's content. Nothing is visible as a snapshot before `publish`. Raises DiskFullError before
        the first byte when the volume is too small, CacheUnwritableError, HubError, also when a file is not
        what the hub says.
        """
        folder = self._snapshot(plan)
        missing = [file for file in plan.files if file.name in suspects or not _is_there(folder, file)]
        if missing:
            check_volume(self._cache_dir, sum(self._lacking(plan, file) for file in missing), str(plan.ref))
        had = plan.total - sum(file.size or 0 for file in missing)
        report(had, plan.total)
        for file in missing:
            self._fetch_one(plan, file, partial(_report_sum, report, had, plan.total), file.name in suspects)
            had += file.size or 0
            report(had, plan.total)
        is_new = any(file.name == plan.graph for file in missing)
        return (
            self._blob(plan, next(file for file in plan.files if file.name == plan.graph))
            if is_new
            else folder / plan.graph
        )

    def publish(self, plan: Plan, suspects: Collection[str] = ()) -> Snapshot:
        """Show the fetched files as the snapshot of their commit, the graph last, and note the revision.

        Raises CacheUnwritableError, DiskFullError.
        """
        folder = self._snapshot(plan)
        try:
            for file in sorted(plan.files, key=lambda file: file.name == plan.graph):
                path = folder / file.name
                if not _is_there(folder, file) or (file.name in suspects and not path.is_symlink()):
                    _link(self._blob(plan, file), path)
        except OSError as error:
            raise self._translated(error, plan.ref) from error
        self._remember(plan)
        return Snapshot(plan.ref, plan.commit, folder, plan.graph, tuple(file.name for file in plan.files))

    def _fetch_one(
        self, plan: Plan, file: RemoteFile, report: Callable[[int], None], is_suspect: bool
    ) -> None:
        path = self._blob(plan, file)
        blob = Blob(
            what=f"{plan.ref} {file.name}",
            url=self._url(plan, file),
            headers=build_hf_headers(token=self._token),
            path=path,
            lock=lock_of(self._cache_dir, plan.ref.cache_name, path.name),
            size=file.size,
        )
        try:
            download(blob, report, suspect=is_suspect)
        except Exception as error:
            raise self._translated(error, plan.ref) from error

    def _identified(self, plan: Plan) -> Plan:
        """The plan with digest and size of every file, asked for one by one where the listing had none."""
        files = tuple(file if file.digest else self._identify(plan, file) for file in plan.files)
        return replace(plan, files=files)

    def _identify(self, plan: Plan, file: RemoteFile) -> RemoteFile:
        """What the hub's answer to HEAD says of a file, as the hub client reads it."""
        url, headers = self._url(plan, file), build_hf_headers(token=self._token)
        headers["Accept-Encoding"] = "identity"
        try:
            for _ in range(_REDIRECTS):
                response = get_session().head(
                    url, headers=headers, follow_redirects=False, timeout=constants.HF_HUB_ETAG_TIMEOUT
                )
                hf_raise_for_status(response)
                target = response.url.join(response.headers.get("Location", ""))
                if not response.is_redirect or target.origin != response.url.origin:
                    break
                if "X-Linked-ETag" in response.headers:
                    break
                url = str(target)
        except Exception as error:
            raise self._translated(error, plan.ref) from error
        told = response.headers
        etag = (told.get("X-Linked-ETag") or told.get("ETag") or "").removeprefix("W/").strip('"')
        length = told.get("X-Linked-Size") or (None if response.is_redirect else told.get("Content-Length"))
        if not _BLOB_NAME.fullmatch(etag):
            raise HubUnreachableError(f"{self.endpoint} does not answer like a model hub: no ETag for {url}")
        return RemoteFile(file.name, int(length) if length and length.isdigit() else file.size, etag)

    def _url(self, plan: Plan, file: RemoteFile) -> str:
        return hf_hub_url(plan.ref.id, file.name, revision=plan.commit, endpoint=self.endpoint)

    def _snapshot(self, plan: Plan) -> Path:
        return self._cache_dir / plan.ref.cache_name / "snapshots" / plan.commit

    def _blob(self, plan: Plan, file: RemoteFile) -> Path:
        return self._cache_dir / plan.ref.cache_name / "blobs" / str(file.digest)

    def _lacking(self, plan: Plan, file: RemoteFile) -> int:
        """Bytes of a file that the volume does not hold yet, finished or not."""
        blob = self._blob(plan, file)
        there = [path.stat().st_size for path in (blob, partial_of(blob)) if path.exists()]
        return max(0, (file.size or 0) - max(there, default=0))

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

    def _translated(self, error: Exception, ref: ModelRef) -> Exception:
        return translate(error, ref, self.endpoint) or error


def _remote(entry: Any) -> RemoteFile:
    """A file as the hub's listing has it; some mirrors tell names only."""
    if entry.lfs is not None:
        return RemoteFile(entry.rfilename, entry.lfs.size, entry.lfs.sha256)
    return RemoteFile(entry.rfilename, entry.size, entry.blob_id)


def _is_there(folder: Path, file: RemoteFile) -> bool:
    """Whether the snapshot has the file in its full size."""
    try:
        found = (folder / file.name).stat().st_size
    except OSError:
        return False
    return file.size is None or found == file.size


def _link(blob: Path, path: Path) -> None:
    """Make `path` show the blob, in one step whatever was there; copied where there are no links."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    try:
        fresh.symlink_to(os.path.relpath(blob, path.parent))
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(blob, fresh)
    fresh.replace(path)


def _report_sum(report: Report, had: int, total: int, count: int) -> None:
    report(had + count, total)
