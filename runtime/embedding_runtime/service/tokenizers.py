"""The tokenizers of the models that the engine has, read once for each in this process.

The library reads a file with Python's lock held, for almost a second where it is as large as XLM-RoBERTa's:
its process answers nothing meanwhile. So the server's processes read such files one after the other, and
those that do not read take the connections that come.
"""

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from embedding_runtime.errors import InternalError
from embedding_runtime.model.recipe import Recipe
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.service.answers import Health
from embedding_runtime.service.state import EngineState, ModelCard, ModelState
from embedding_runtime.service.tokenization import Tokenization

_Key = tuple[Path, Recipe]

# A smaller file is read in less than a tenth of a second.
_LARGE_BYTES = 1 << 20
_LOOK_SECONDS = 0.02


class Tokenizers:
    """By model; a model that the engine knows no more loses its tokenizer.

    `turns`: a file that all processes of a server lock while they read a large tokenizer.
    """

    def __init__(self, turns: Path) -> None:
        self._turns = turns
        self._reading: dict[Wanted, tuple[_Key, asyncio.Task[Tokenization]]] = {}

    def learn(self, state: EngineState) -> None:
        """Start to read the tokenizer of every model that became ready, let go of the others."""
        known = {model.wanted for model in state.models}
        for wanted in [wanted for wanted in self._reading if wanted not in known]:
            del self._reading[wanted]
        for model in state.models:
            if model.card:
                self._start(model.wanted, model.card)

    async def of(self, model: ModelState, card: ModelCard) -> Tokenization:
        """The tokenizer of a loaded model.

        Raises CorruptModelError.
        """
        return await asyncio.shield(self._start(model.wanted, card))

    def trouble(self, model: ModelState) -> Health | None:
        """What keeps the tokenizer from being used, as a state of the server; None for nothing."""
        reading = self._reading.get(model.wanted)
        if reading is None or not reading[1].done():
            return Health("loading", "Loading", f"the tokenizer of {model.name} is loading", ())
        if not reading[1].cancelled() and (error := reading[1].exception()):
            return Health("load_failed", getattr(error, "code", InternalError.code), str(error), ())
        return None

    def _start(self, wanted: Wanted, card: ModelCard) -> "asyncio.Task[Tokenization]":
        key = (card.tokenizer_path, card.recipe)
        known = self._reading.get(wanted)
        if known is not None and known[0] == key:
            return known[1]
        reading = asyncio.create_task(self._read(*key))
        # What it raises is told by `of` and `trouble`, or by nobody when the model went meanwhile.
        reading.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._reading[wanted] = (key, reading)
        return reading

    async def _read(self, path: Path, recipe: Recipe) -> Tokenization:
        if not _is_large(path):
            return await asyncio.to_thread(Tokenization, path, recipe)
        async with _turn(self._turns):
            return await asyncio.to_thread(Tokenization, path, recipe)


def _is_large(path: Path) -> bool:
    try:
        return path.stat().st_size > _LARGE_BYTES
    except OSError:  # reading it will tell
        return False


@asynccontextmanager
async def _turn(path: Path) -> AsyncIterator[None]:
    """Hold a lock of the whole server."""
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOOK_SECONDS)
        yield
