"""Where prepared graphs lie: <folder>/<key>/ with GRAPH, WEIGHTS and a manifest. Whole or not at all.

A graph that did not pass its check leaves a manifest with the reason, so that it is not made again; where
the repository has no graph of its own, that which was made of its safetensors lies there with the reason.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from embedding_runtime.model.prepared import Target
from embedding_runtime.model.source import ModelSource
from embedding_runtime.registry.digests import digests
from embedding_runtime.telemetry import logger

_log = logger("prepared")

GRAPH, WEIGHTS = "graph.onnx", "weights"
_MANIFEST = "prepared.json"
_MAKING = ".making-"

# Raised when a graph is made otherwise than before.
_FORMAT = 4
# Raised when a graph is made of safetensors otherwise than before.
_CONVERSION = 1


@dataclass(frozen=True)
class Entry:
    """What lies under a key: a graph, or the `note` why there is none but the model's own; that lies here
    only where the repository does not have it. `unfused` as in `Prepared`.
    """

    folder: Path
    precision: str
    note: str | None
    unfused: str | None

    @property
    def graph(self) -> Path:
        """The graph, where there is one."""
        return self.folder / GRAPH


def key(source: ModelSource, target: Target) -> str:
    """40 hex digits of everything that shapes the graph: weights and recipe, which are in the fingerprint,
    the target, and what makes it. The machine shapes nothing of it.
    """
    content: list[object] = [_FORMAT, source.fingerprint, target.precision, metadata.version("onnx")]
    if source.is_converted:
        content.append(_CONVERSION)
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:40]


def find(folders: Sequence[Path], key: str, *, fresh: bool = False) -> Entry | None:
    """What the first of the folders that has it holds under the key, whose files are as they were written.

    Reads every byte of it, unless it is `fresh`, which is written just now and compared when it is found
    again. Raises nothing: what cannot be read or is damaged is not there.
    """
    for folder in folders:
        home = folder / key
        try:
            said = json.loads((home / _MANIFEST).read_text(encoding="utf-8"))
            files = {} if fresh else said["files"]
            damaged = [name for name, digest in files.items() if _digest(home / name) != digest]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("a prepared graph cannot be read", folder=str(home), error=str(error))
            continue
        if not damaged:
            return Entry(home, said["precision"], said["note"], said["unfused"])
        _log.warning("a prepared graph is damaged", folder=str(home), files=damaged)
    return None


def entries(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """The folder of each prepared graph, or note, with the model and the commit that it was made of.

    Raises nothing: what cannot be read is not there.
    """
    for manifest in sorted(folder.glob(f"*/{_MANIFEST}")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(manifest.read_text(encoding="utf-8"))
            yield manifest.parent, said["model"], said["commit"]


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """An empty folder beside the finished ones to make one in, while nobody else makes one there.

    What a killed process left is removed. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob(f"{_MAKING}*"):
            shutil.rmtree(left)
        scratch = Path(tempfile.mkdtemp(dir=folder, prefix=_MAKING))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def publish(
    scratch: Path, key: str, source: ModelSource, target: Target, note: str | None, unfused: str | None
) -> None:
    """Give the folder made by `making` its name; where there is a note, only that stays, unless the
    repository has no graph of its own: then what is there is the one made of its safetensors.

    `unfused` as in `Prepared`. Raises OSError.
    """
    if note is not None and not source.is_converted:
        for path in scratch.iterdir():
            path.unlink()
    with ThreadPoolExecutor(1) as disk:
        written = disk.map(_sync, list(scratch.iterdir()))
        found = {path.name: _digest(path) for path in scratch.iterdir()}
        list(written)
    manifest = {
        "model": source.id,
        "commit": source.commit,
        "precision": target.precision,
        "note": note,
        "unfused": unfused,
        "files": found,
    }
    (scratch / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    # Readable for the pods that mount the volume, whoever they run as and however the files were made.
    for path in scratch.iterdir():
        path.chmod(0o644)
    scratch.chmod(0o755)
    for path in (scratch / _MANIFEST, scratch):
        _sync(path)
    home = scratch.parent / key
    if home.exists():  # damaged, or it would have been taken
        shutil.rmtree(home)
    scratch.rename(home)
    _sync(home.parent)


def _digest(path: Path) -> str:
    return digests(path).sha256


def _sync(path: Path) -> None:
    """Have it on the disk before the next step."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
