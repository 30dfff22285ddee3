"""Large tokenizers are read by one process of a server at a time, small ones by all at once."""

import asyncio
import fcntl
from dataclasses import replace
from pathlib import Path

from embedding_runtime.model.recipe import read_recipe
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.service.state import EngineState, ModelCard, ModelState
from embedding_runtime.service.tokenizers import Tokenizers
from tests.unit.runtime import fakes, made


def _ready(folder: Path, *, large: bool) -> tuple[ModelState, ModelCard]:
    made.write_embedder(folder)
    if large:
        with (folder / "tokenizer.json").open("a") as file:
            file.write(" " * (2 << 20))
    wanted = Wanted(folder.name)
    card = replace(fakes.card(wanted, folder), recipe=read_recipe(folder, "m"))
    return ModelState(0, wanted, "ready", card=card), card


def test_a_large_tokenizer_waits_for_its_turn_and_a_small_one_does_not(tmp_path: Path) -> None:
    large, large_card = _ready(tmp_path / "large", large=True)
    small, small_card = _ready(tmp_path / "small", large=False)

    async def read() -> None:
        tokenizers = Tokenizers(tmp_path / "turns")
        with (tmp_path / "turns").open("w") as another:
            fcntl.flock(another, fcntl.LOCK_EX)
            tokenizers.learn(EngineState((large, small)))
            assert await tokenizers.of(small, small_card)
            waiting = tokenizers.trouble(large)
            assert waiting is not None
            assert waiting.status == "loading"
        assert await tokenizers.of(large, large_card)
        assert tokenizers.trouble(large) is None

    asyncio.run(asyncio.wait_for(read(), 60))
