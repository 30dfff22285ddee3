"""What GET /models says, and what readiness does."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from embedding_runtime.model.wanted import Wanted
from embedding_runtime.registry.catalogue import Catalogue, Entry
from embedding_runtime.service.answers import Health, Source
from embedding_runtime.service.cached_names import CachedNames
from embedding_runtime.service.configured import Configured
from embedding_runtime.service.health import health
from embedding_runtime.service.listing import listing
from embedding_runtime.service.names import Names
from embedding_runtime.service.state import EngineState, ModelState
from embedding_runtime.settings import Task
from tests.unit.runtime import made
from tests.unit.runtime.fakes import COMMIT, EMBEDDER, RERANKER, card, known

LAZY = Wanted("org/lazy")
NAMED = {"org/embedder": EMBEDDER, "small": EMBEDDER, "org/other": Wanted("org/other", task="embed")}
CONFIGURED = Configured({"embed": EMBEDDER}, {"rerank": LAZY}, NAMED)
NAMES = Names(CONFIGURED, None, known({"org/known": "dense", "org/lazy": "rerank"}))
CACHED: dict[str, Task | None] = {"org/cached": "rerank", "org/odd": None, "org/embedder": "embed"}
READY = ModelState(0, EMBEDDER, "ready", "", "", default=True, card=card(EMBEDDER))


def test_configured_models_come_first_and_what_cannot_be_served_not_at_all() -> None:
    found = listing(NAMES, EngineState((READY,)), CACHED, offline=False)
    assert [(each.name, each.task, each.state, each.default) for each in found] == [
        ("org/embedder", "embed", "ready", True),
        ("org/other", "embed", "available", False),
        ("org/cached", "rerank", "available", False),
        ("org/known", "embed", "available", False),
        ("org/lazy", "rerank", "available", True),
    ]
    assert found[0].served_names == ("small",)
    assert (found[0].card, found[0].memory_bytes) == (READY.card, 0)


def test_offline_only_what_is_there_is_listed() -> None:
    found = listing(NAMES, EngineState((READY,)), CACHED, offline=True)
    assert [each.name for each in found] == ["org/embedder", "org/cached"]


def test_patterns_leave_the_rest_out_and_what_was_loaded_is_in() -> None:
    names = replace(NAMES, patterns=("org/k*", "fresh/*"))
    fresh = Wanted("fresh/one", "v1")
    state = EngineState((READY, ModelState(1, fresh, "ready", "", "", card=card(fresh))))
    found = listing(names, state, CACHED, offline=False)
    assert [each.name for each in found] == ["org/embedder", "org/other", "fresh/one", "org/known"]
    assert found[2].state == "ready"


def test_a_failure_says_why_and_without_an_engine_everything_is_available() -> None:
    failed = ModelState(0, EMBEDDER, "load_failed", "CorruptModel", "broken", permanent=True, default=True)
    (first, *_) = listing(NAMES, EngineState((failed,)), CACHED, offline=False)
    assert (first.state, first.reason, first.message) == ("load_failed", "CorruptModel", "broken")
    assert {each.state for each in listing(NAMES, None, CACHED, offline=False)} == {"available"}


def test_whose_files_answer_is_told_of_variants_and_of_what_a_substitute_answers_for() -> None:
    variant, plain = "org/m@fastembed-rs", Wanted("org/m")
    entries = (
        Entry(variant, "dense", None, (), repository="org/export", file="model.onnx"),
        Entry("org/m", "dense", None, (), repository="org/export", file="model.onnx"),
    )
    names = Names(Configured({}, {}, {}), None, Catalogue(entries))
    told = {each.name: each.source for each in listing(names, None, {}, offline=False)}
    # Which repository answers for a plain name shows when it is looked for.
    assert told == {variant: Source("org/export", "model.onnx"), "org/m": None}
    loaded = replace(card(plain), repository="org/other", file="x.onnx")
    state = EngineState((ModelState(0, plain, "ready", card=loaded),))
    (found,) = [each for each in listing(names, state, {}, offline=False) if each.name == "org/m"]
    assert found.source == Source("org/other", "x.onnx")


def _health(*models: ModelState, trouble: Health | None = None, allow_fallback: bool = False) -> Health:
    return health(EngineState(models), lambda _: trouble, allow_fallback=allow_fallback)


LOADING = ModelState(1, RERANKER, default=True)
FAILED = replace(LOADING, state="load_failed", reason="NotCached", message="not there")
FULL = replace(LOADING, state="exhausted", reason="OutOfMemory", message="no room")
ON_CPU = replace(READY, card=replace(card(EMBEDDER), fallback="no driver"))


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ((READY,), ("ready", "", "")),
        ((), ("ready", "", "")),
        ((READY, LOADING), ("loading", "Loading", "org/reranker is loading")),
        ((READY, FULL), ("exhausted", "OutOfMemory", "no room")),
        ((LOADING, FAILED), ("load_failed", "NotCached", "not there")),
        ((READY, replace(FAILED, default=False)), ("ready", "", "")),
        (
            (ON_CPU,),
            (
                "load_failed",
                "ProviderUnavailable",
                "org/embedder runs on the CPU: no driver; or set ALLOW_CPU_FALLBACK=true",
            ),
        ),
        ((replace(ON_CPU, default=False),), ("ready", "", "")),
    ],
)
def test_ready_means_every_default_model_as_it_was_asked_for(
    models: tuple[ModelState, ...], expected: tuple[str, str, str]
) -> None:
    found = _health(*models)
    assert (found.status, found.reason, found.message) == expected


def test_a_fall_back_that_is_allowed_is_ready() -> None:
    assert _health(ON_CPU, allow_fallback=True).status == "ready"


def test_without_an_engine_nothing_is_ready() -> None:
    found = health(None, lambda _: None, allow_fallback=True)
    assert (found.status, found.reason) == ("loading", "EngineUnavailable")


def test_what_this_process_lacks_keeps_it_from_being_ready_with_all_cards() -> None:
    found = _health(READY, trouble=Health("load_failed", "CorruptModel", "tokenizer", ()))
    assert (found.status, found.reason, len(found.cards)) == ("load_failed", "CorruptModel", 1)


def test_the_cache_tells_names_and_tasks_and_notices_what_comes(tmp_path: Path) -> None:

    async def check() -> None:
        names = CachedNames(tmp_path / "hub", known({}), fresh_seconds=0)
        assert await names.tasks() == {}
        made.cache(tmp_path, "org/embedder", COMMIT, made.write_embedder(tmp_path / "e"))
        made.cache(tmp_path, "org/reranker", COMMIT, made.write_reranker(tmp_path / "r"))
        (tmp_path / "hub/models--org--odd/snapshots/x").mkdir(parents=True)
        first, second = await asyncio.gather(names.tasks(), names.tasks())
        assert first == second == {"org/embedder": "embed", "org/odd": None, "org/reranker": "rerank"}

    asyncio.run(check())
