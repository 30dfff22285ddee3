"""Where things are kept between runs, and the keys under which they are found again.

Everything lives below one folder of the user's cache. A thing's key is a digest of what made it, so that a
changed script or version makes a new thing and never mixes with the old one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the checkout
KEY_DIGITS = 12
SCRATCH_SECONDS = 60 * 60


def cache_root() -> Path:
    """Return the folder of everything that is kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedding-operator"


@dataclass(frozen=True)
class State:
    """The folders of one cluster and of what all clusters of this user share."""

    root: Path
    cluster: str

    @property
    def folder(self) -> Path:
        """What belongs to this cluster alone: kubeconfig, overlays, timings."""
        return self.root / "clusters" / self.cluster

    @property
    def kubeconfig(self) -> Path:
        """The cluster's kubeconfig; the user's own is never touched."""
        return self.folder / "kubeconfig"

    @property
    def binaries(self) -> Path:
        """A folder with `kind` and `kubectl`."""
        return self.folder / "bin"

    @property
    def logs(self) -> Path:
        """One log for each step."""
        return self.root / "logs" / self.cluster

    @property
    def timings(self) -> Path:
        """Seconds of each step of the last run, as JSON."""
        return self.folder / "timings.json"

    @property
    def lock(self) -> Path:
        """The one lock that every run on this machine takes."""
        return self.root / "lock"

    @property
    def served(self) -> Path:
        """What every node sees as `/mirror-models`: one folder for each version of the mirror's models."""
        return self.root / "mirror"


def digest(*parts: Path | str | bytes) -> str:
    """Return 12 hex digits of strings, files and whole folders (names, modes and contents)."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for path in sorted(content(part)):
                executable = os.access(path, os.X_OK)
                total.update(f"{path.relative_to(part.parent).as_posix()} {executable}\n".encode())
                total.update(hashlib.sha256(path.read_bytes()).digest())
        else:
            data = part.encode() if isinstance(part, str) else part
            total.update(hashlib.sha256(data).digest())
    return total.hexdigest()[:KEY_DIGITS]


def content(path: Path) -> list[Path]:
    """Return the files at or below a path that somebody wrote: no build products, nothing hidden."""
    if path.is_file():
        return [path]
    found = []
    for child in path.iterdir():
        generated = child.name == "__pycache__" or child.suffix in (".pyc", ".egg-info")
        if not generated and not child.name.startswith("."):
            found += content(child)
    return found


def sweep(root: Path, now: float) -> None:
    """Remove the scratch folders of runs that were killed.

    All but the models' belong to runs that hold the lock, so they are left-overs; models are fetched by tests
    too, and count as left over after an hour.
    """
    ours = [
        *root.glob(".root-fs-*"),
        *root.glob(".node-image-*"),
        *root.glob(".go-*"),
        *root.glob("*/.building-*"),
    ]
    old = [path for path in root.glob(".models-*") if now - path.stat().st_mtime > SCRATCH_SECONDS]
    for path in [*ours, *old, *root.glob("mirror/.*")]:
        shutil.rmtree(path, ignore_errors=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.replace(path)
