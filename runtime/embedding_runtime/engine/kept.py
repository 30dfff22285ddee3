"""Calibrations on disk, so that a second start on the same kind of machine measures nothing."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from embedding_runtime.engine.calibration import Calibration
from embedding_runtime.telemetry import logger

_log = logger("calibration")

_FOLDER = "calibrations"


def kept(folders: Sequence[Path], key: str, measure: Callable[[], Calibration]) -> Calibration:
    """The calibration under a key in any of the folders; else it is measured, and written into the first.

    A folder that cannot be read or written is no error: then every start measures.
    """
    for folder in folders:
        path = _path(folder, key)
        try:
            return Calibration.from_json(json.loads(path.read_bytes()))
        except OSError:
            continue
        except (KeyError, TypeError, ValueError) as error:
            _log.warning("a calibration that is not one", path=str(path), error=str(error))
    measured = measure()
    if folders:
        _write(_path(folders[0], key), measured)
    return measured


def _path(folder: Path, key: str) -> Path:
    """A key holds what no file name may, such as a GPU's product name."""
    return folder / _FOLDER / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _write(path: Path, calibration: Calibration) -> None:
    """All of it or nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(calibration.to_json(), file)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        _log.info("the calibration is not kept", path=str(path), error=error.strerror)
