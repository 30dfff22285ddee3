"""The graph to run for a model: a prepared one that lies ready, one that is made now, or its own.

Making one is left to a process of its own (`preparing`): it takes the memory of a second copy of the weights,
holds the interpreter's lock for long, and ends with whatever a graph may break in it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from embedding_runtime.errors import RuntimeFault
from embedding_runtime.model.prepared import Prepared, Target
from embedding_runtime.model.shelf import Entry, find, key
from embedding_runtime.model.source import ModelSource
from embedding_runtime.registry.volume import check_volume
from embedding_runtime.telemetry import logger

_log = logger("preparation")

# A process that makes a graph of some GiB, on a busy machine with a slow disk, is done by then.
_MOST_SECONDS = 300.0


def prepare(source: ModelSource, target: Target, folders: Sequence[Path]) -> Prepared:
    """The graph to run; made and kept in the first of the folders where none of them has it.

    Never an error: where none can be made or kept, it is the model's own, with the reason as its note.
    Without folders it is the model's own as well, as it was asked for.
    """
    if not folders:
        return Prepared.as_it_is(source)
    name = key(source, target)
    found: Entry | str | None = find(folders, name)
    if found is None:
        _log.info("preparing", model=source.id, precision=target.precision, folder=str(folders[0]))
        found = _made(source, target, name, folders[0])
    if isinstance(found, Entry) and found.note is None:
        return Prepared(
            found.graph, found.precision, plain=False, note=None, key=name, repository=source.folder
        )
    note = found.note if isinstance(found, Entry) else found
    _log.warning("the model's own graph is run, not a prepared one", model=source.id, reason=note)
    return Prepared.as_it_is(source, note)


def _made(source: ModelSource, target: Target, name: str, folder: Path) -> Entry | str:
    """What was made, or why nothing was."""
    try:
        check_volume(folder, source.bytes, f"the prepared graph of {source.id}")
    except RuntimeFault as error:
        return error.message
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
        return f"it was not prepared within {_MOST_SECONDS:.0f} s"
    except OSError as error:
        return f"it could not be prepared: {error.strerror}"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return f"it could not be prepared: {lines[-1] if lines else f'exit code {done.returncode}'}"
    return find([folder], name, fresh=True) or f"what was prepared in {folder} cannot be read"
