"""A proven folder gets its name: what has been copied beside others is kept with them."""

import os
import shutil
from pathlib import Path

from embedding_runtime.registry.volume import unwritable


def store(folder: Path, under: Path, name: str) -> Path:
    """Move a folder to its name and return that; one that is there already stays, and `folder` goes.

    The move is one step: whoever looks finds the whole folder or none. Raises CacheUnwritableError.
    """
    target = under / name
    try:
        if target.exists():
            shutil.rmtree(folder)
            return target
        under.mkdir(parents=True, exist_ok=True)
        os.sync()  # what was copied is on the disk before it has its name
        folder.rename(target)
    except OSError as error:
        raise unwritable(target, error) from error
    return target
