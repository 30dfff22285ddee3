"""What the cache holds now, for the HTTP processes: ids and tasks, read again every few seconds."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from embedding_runtime.model.recipe import read_task
from embedding_runtime.registry.cache import CachedModel, cached
from embedding_runtime.registry.catalogue import Catalogue
from embedding_runtime.settings import Task

# Other processes fill the cache meanwhile; a volume in the network is not to be read for every request.
FRESH_SECONDS = 3.0


class CachedNames:
    """The cache folder at `cache_dir`, read again after so many seconds at the earliest.

    `known`: whose variants and substitutes it may hold, which have other names than their repositories.
    """

    def __init__(self, cache_dir: Path, known: Catalogue, fresh_seconds: float = FRESH_SECONDS) -> None:
        self._cache_dir, self._fresh_seconds = cache_dir, fresh_seconds
        self._elsewhere = [entry for entry in known.served() if entry.repository and entry.file]
        self._known: Mapping[str, Task | None] = {}
        self._tasks: dict[Path, Task | None] = {}
        self._read = float("-inf")
        self._reading: asyncio.Task[Mapping[str, Task | None]] | None = None

    async def tasks(self) -> Mapping[str, Task | None]:
        """The id of every model in the cache, and its task; None for one that cannot be served. Also the
        names of the catalogue that the repositories in it answer for.
        """
        if time.monotonic() - self._read < self._fresh_seconds:
            return self._known
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(asyncio.to_thread(self._scan))
        self._known = await asyncio.shield(self._reading)
        self._read = time.monotonic()
        return self._known

    def _scan(self) -> Mapping[str, Task | None]:
        models = cached(self._cache_dir)
        found = {model.id: self._task(model) for model in models}
        spelt = {model.id.lower(): model for model in models}
        for entry in self._elsewhere:
            model = spelt.get((entry.repository or "").lower())
            if model and not found.get(entry.name) and _holds(model, entry.file or ""):
                found[entry.name] = self._task(model)
        return found

    def _task(self, model: CachedModel) -> Task | None:
        """The task of the first revision that has one; what a finished snapshot is never changes."""
        for revision in model.revisions:
            task = self._tasks.get(revision.folder) or read_task(revision.folder)
            if task is not None:
                self._tasks[revision.folder] = task
                return task
        return None


def _holds(model: CachedModel, file: str) -> bool:
    return any((revision.folder / file).exists() for revision in model.revisions)
