"""Is a cached file what the hub says it is? A blob is named by its content: SHA-256, or git's SHA-1.

A file that is no link into `blobs`, as in a cache without links and in a local folder, has no name to be
compared with: of it only the digest is told.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

_CHUNK_BYTES = 1 << 20
_SHA256, _SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Digests:
    """Digests of one content in hexadecimal digits; `git` is that of a git blob, None where not asked for."""

    sha256: str
    git: str | None

    def match(self, name: str) -> bool:
        """Whether a blob of this name has this content."""
        return name in (self.sha256, self.git)


def is_digest(name: str) -> bool:
    """Whether a blob's name says what its content is."""
    return bool(_SHA256.fullmatch(name) or _SHA1.fullmatch(name))


def digests(path: Path, claim: str | None = None) -> Digests:
    """The digests of the file at `path`, which is read once; git's too where the claim is one of git's.

    Raises OSError.
    """
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        # Git's own name for a content (git hash-object), which the hub gives to what is not in LFS.
        git = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        is_git = claim is not None and _SHA1.fullmatch(claim) is not None
        while chunk := file.read(_CHUNK_BYTES):
            sha256.update(chunk)
            if is_git:
                git.update(chunk)
    return Digests(sha256.hexdigest(), git.hexdigest() if is_git else None)


def claimed(path: Path) -> str | None:
    """The digest that a file of a snapshot should have, by the name of the blob that it links to."""
    blob = path.resolve()
    return blob.name if blob.parent.name == "blobs" and is_digest(blob.name) else None
