"""The HTTP endpoints of the model hub that `huggingface_hub` uses, over a directory of repositories.

    GET       /api/models/<id>[/revision/<rev>]     information, siblings and commit
    GET       /api/models/<id>/tree/<rev>           files with sizes and digests
    GET HEAD  /<id>/resolve/<rev>/<path>            small files; large ones redirect, as on the hub
    GET HEAD  /blobs/<commit>/<sha256>              large files, whole or by range

Errors carry the hub's own `X-Error-Code`; an unknown repository is 401 for an anonymous client and 404 for
one with a token, as on the hub. Standard library only: in a cluster this file runs from a ConfigMap. It knows
nothing of where the models come from (`models.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LFS_BYTES = 1 << 20  # from this size on a file is stored, and redirected to, by its sha256
POINTER_BYTES = 134  # of a git-lfs pointer, about
CHUNK_BYTES = 1 << 18
IDLE_SECONDS = 30.0


@dataclass(frozen=True)
class File:
    """One file of a repository; `oid` is git's blob id, `sha256` is set for large files only."""

    path: str
    source: Path
    size: int
    oid: str
    sha256: str | None

    def tree_entry(self) -> dict[str, Any]:
        """Return the entry of the tree listing."""
        entry: dict[str, Any] = {"type": "file", "path": self.path, "size": self.size, "oid": self.oid}
        if self.sha256:
            entry["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": POINTER_BYTES}
        return entry

    def sibling(self) -> dict[str, Any]:
        """Return the entry of the model's information; the digest has another name there."""
        entry: dict[str, Any] = {"rfilename": self.path, "size": self.size, "blobId": self.oid}
        if self.sha256:
            entry["lfs"] = {"sha256": self.sha256, "size": self.size, "pointerSize": POINTER_BYTES}
        return entry


@dataclass(frozen=True)
class Repository:
    """One model repository with a single commit, which is the head of `main`."""

    id: str
    files: dict[str, File]

    @cached_property
    def commit(self) -> str:
        """Return 40 hex digits that follow from the files' names and contents."""
        listing = "".join(f"{file.oid} {file.path}\n" for file in self.files.values())
        return hashlib.sha1(listing.encode(), usedforsecurity=False).hexdigest()

    def has(self, revision: str) -> bool:
        """Tell whether the revision names the one commit."""
        return revision in ("main", self.commit)

    def information(self, blobs: bool) -> dict[str, Any]:
        """Return what the hub tells of a model; sizes and digests of the files only where asked for."""
        siblings = [file.sibling() if blobs else {"rfilename": file.path} for file in self.files.values()]
        return {
            "id": self.id,
            "modelId": self.id,
            "sha": self.commit,
            "private": False,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": siblings,
        }


def repositories(root: Path) -> dict[str, Repository]:
    """Read every `<organisation>/<name>` folder under `root`, keyed by that name."""
    found = {}
    for folder in sorted(path for path in root.glob("*/*") if path.is_dir()):
        name = folder.relative_to(root).as_posix()
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = [_file(path, path.relative_to(folder).as_posix()) for path in paths]
        found[name] = Repository(name, {file.path: file for file in files})
    return found


def _file(source: Path, path: str) -> File:
    size = source.stat().st_size
    with source.open("rb") as stream:
        if size >= LFS_BYTES:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
            return File(path, source, size, _git_oid(pointer.encode()), sha256)
        return File(path, source, size, _git_oid(stream.read()), None)


def _git_oid(content: bytes) -> str:
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


class Mirror(ThreadingHTTPServer):
    """Serves the repositories under one directory, read once at the start."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], root: Path) -> None:
        self.repositories = repositories(root)
        self.blobs = {
            file.sha256: file
            for repository in self.repositories.values()
            for file in repository.files.values()
            if file.sha256
        }
        super().__init__(address, Handler)


class Handler(BaseHTTPRequestHandler):
    """One connection of a hub client."""

    protocol_version = "HTTP/1.1"
    server_version = "hub-mirror"
    timeout = IDLE_SECONDS
    server: Mirror

    def do_GET(self) -> None:
        """Answer a GET."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer a HEAD: the same without a body."""
        self._answer()

    def log_error(self, format: str, *args: object) -> None:
        """Log what went wrong; a kept connection that nobody uses any more did not."""
        if not format.startswith("Request timed out"):
            super().log_error(format, *args)

    def _answer(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        if path == "/healthz":
            self._json({"repositories": sorted(self.server.repositories)})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            if repository := self._repository(match[1], match[2] or "main"):
                self._json(repository.information("blobs" in parse_qs(address.query)))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)/?", path):
            if repository := self._repository(match[1], match[2]):
                self._json([file.tree_entry() for file in repository.files.values()])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if repository := self._repository(match[1], match[2]):
                self._resolve(repository, match[3])
        elif (match := re.fullmatch(r"/blobs/(\w+)/(\w+)", path)) and match[2] in self.server.blobs:
            # the client follows a redirect to the same host and then wants the commit once more
            self._content(self.server.blobs[match[2]], {"X-Repo-Commit": match[1]})
        else:
            self._error(HTTPStatus.NOT_FOUND, "", f"nothing is served at {path}")

    def _repository(self, name: str, revision: str) -> Repository | None:
        repository = self.server.repositories.get(name)
        if repository is None:
            known = HTTPStatus.NOT_FOUND if "Authorization" in self.headers else HTTPStatus.UNAUTHORIZED
            self._error(known, "RepoNotFound", "Repository not found")
        elif not repository.has(revision):
            self._error(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return repository
        return None

    def _resolve(self, repository: Repository, path: str) -> None:
        file = repository.files.get(path)
        commit = {"X-Repo-Commit": repository.commit}
        if file is None:
            self._error(HTTPStatus.NOT_FOUND, "EntryNotFound", f"{path} is not in {repository.id}", commit)
        elif file.sha256 is None:
            self._content(file, commit)
        else:
            host = self.headers.get("Host", "localhost")
            headers = {
                "Location": f"http://{host}/blobs/{repository.commit}/{file.sha256}",
                "X-Linked-Size": str(file.size),
                "X-Linked-ETag": f'"{file.sha256}"',
                **commit,
            }
            self._send(HTTPStatus.FOUND, headers, b"")

    def _content(self, file: File, headers: dict[str, str]) -> None:
        headers = {**headers, "ETag": f'"{file.sha256 or file.oid}"', "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, end = 0, file.size - 1
        status = HTTPStatus.OK
        if wanted:
            start, end = int(wanted[1]), min(int(wanted[2] or end), end)
            if start > end:
                unsatisfied = {"Content-Range": f"bytes */{file.size}"}
                self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, unsatisfied, b"")
                return
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{end}/{file.size}"
        self._head(status, headers, end - start + 1)
        if self.command == "HEAD":
            return
        with file.source.open("rb") as stream:
            stream.seek(start)
            self._copy(stream, end - start + 1)

    def _copy(self, stream: Any, length: int) -> None:
        while length > 0 and (chunk := stream.read(min(length, CHUNK_BYTES))):
            self.wfile.write(chunk)
            length -= len(chunk)

    def _json(self, body: Any) -> None:
        self._send(HTTPStatus.OK, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _error(
        self, status: HTTPStatus, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        said = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        content = {"Content-Type": "application/json"}
        self._send(status, {**content, **said, **(headers or {})}, json.dumps({"error": message}).encode())

    def _send(self, status: HTTPStatus, headers: dict[str, str], body: bytes) -> None:
        self._head(status, headers, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: HTTPStatus, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def main() -> None:
    """Serve the directory named on the command line until interrupted."""
    parser = argparse.ArgumentParser(description="a mirror of the model hub")
    parser.add_argument("--root", type=Path, required=True, help="directory of <organisation>/<name> folders")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8081, help="0 picks a free one")
    options = parser.parse_args()
    mirror = Mirror((options.host, options.port), options.root)
    print(f"http://{options.host}:{mirror.server_port} serves {sorted(mirror.repositories)}", file=sys.stderr)
    sys.stderr.flush()
    mirror.serve_forever()


if __name__ == "__main__":
    main()
