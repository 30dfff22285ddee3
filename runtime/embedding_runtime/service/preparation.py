"""The graph to run for a model: a prepared one that lies ready, one that is made now, or its own.

Making one is left to a process of its own (`preparing`): it takes the memory of a second copy of the weights,
holds the interpreter's lock for long, and ends with whatever a graph may break in it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from embedding_runtime.errors import CacheUnwritableError, InternalError, RuntimeFault, UnsupportedModelError
from embedding_runtime.model.prepared import Prepared, Target
from embedding_runtime.model.shelf import Entry, find, key
from embedding_runtime.model.source import ModelSource
from embedding_runtime.model.tensors import checkpoint
from embedding_runtime.registry.volume import check_volume
from embedding_runtime.telemetry import logger

_log = logger("preparation")

# A process that makes a graph of some GiB, on a busy machine with a slow disk, is done by then.
_MOST_SECONDS = 300.0

# How the process that makes a graph ends where it does not: the model is to blame, its folder, or neither.
UNSUPPORTED, UNWRITABLE, UNLUCKY = 1, 2, 3
_BLAMED: dict[int, type[RuntimeFault]] = {
    UNSUPPORTED: UnsupportedModelError,
    UNWRITABLE: CacheUnwritableError,
}


def prepare(source: ModelSource, target: Target, folders: Sequence[Path]) -> Prepared:
    """The graph to run; made and kept in the first of the folders where none of them has it.

    Never an error for a model that has a graph: where none can be made or kept, it is the model's own, with
    the reason as its note. Where the folders are none it is the model's own as well, as it was asked for.

    Raises UnsupportedModelError, CacheError for one that has only safetensors, where no graph can be made of
    them or kept.
    """
    if not folders:
        if source.is_converted:
            raise UnsupportedModelError(
                f"{source.id} has no ONNX file, and what is made of its {source.graph} needs a folder to be "
                "kept in: set PREPARED_CACHE_DIR to one, or leave it unset"
            )
        return Prepared.as_it_is(source)
    name = key(source, target)
    found: Entry | RuntimeFault | None = find(folders, name)
    if found is None:
        _log.info("preparing", model=source.id, precision=target.precision, folder=str(folders[0]))
        found = _made(source, target, name, folders[0])
    if isinstance(found, Entry) and found.note is None:
        if found.unfused:
            _log.warning("not all is fused that should be", model=source.id, missing=found.unfused)
        return Prepared(
            found.graph, found.precision, False, None, name, repository=source.folder, unfused=found.unfused
        )
    if isinstance(found, RuntimeFault) and source.is_converted:
        raise type(found)(
            f"{source.id} has no ONNX file, and none can be made of its {source.graph}: {found.message}"
        )
    note = found.note if isinstance(found, Entry) else found.message
    _log.warning("the model's own graph is run, not a prepared one", model=source.id, reason=note)
    own = Prepared.as_it_is(source, note)
    return replace(own, path=found.graph) if isinstance(found, Entry) and source.is_converted else own


def instead(source: ModelSource, target: Target, note: str, folders: Sequence[Path]) -> Prepared | None:
    """What to run where the graph that was prepared for the target does not run on this machine; `note` says
    why not. None where there is nothing else.

    Raises as `prepare`.
    """
    if not source.is_converted:
        return Prepared.as_it_is(source, note)
    exact = Target(source.precision)
    return None if target == exact else replace(prepare(source, exact, folders), note=note)


def _room(source: ModelSource) -> int:
    """Bytes that making a graph takes on the volume; of safetensors it is two, of which one is kept.

    Raises CorruptModelError.
    """
    if not source.is_converted:
        return source.bytes
    return 2 * sum(tensors.bytes for tensors in checkpoint(source.graph_path))


def _made(source: ModelSource, target: Target, name: str, folder: Path) -> Entry | RuntimeFault:
    """What was made, or why nothing was."""
    try:
        check_volume(folder, _room(source), f"the prepared graph of {source.id}")
    except RuntimeFault as error:
        return error
    asked = {"source": source.to_json(), "target": vars(target), "folder": str(folder), "parent": os.getpid()}
    command = [sys.executable, "-m", "embedding_runtime.service.preparing"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=_MOST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return InternalError(f"it was not prepared within {_MOST_SECONDS:.0f} s")
    except OSError as error:
        return InternalError(f"it could not be prepared: {error.strerror}")
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        why = f"it could not be prepared: {lines[-1] if lines else f'exit code {done.returncode}'}"
        return _BLAMED.get(done.returncode, InternalError)(why)
    made = find([folder], name, fresh=True)
    return made or InternalError(f"what was prepared in {folder} cannot be read")
