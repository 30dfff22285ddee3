"""Which model a name means, who may name it, and what is said when it means none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedding_runtime.errors import UnknownModelError, UnsupportedModelRequestError, WrongTaskError
from embedding_runtime.model.recipe import Overrides
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.service.configured import Configured, configured
from embedding_runtime.service.names import Names, nearest
from embedding_runtime.settings import DEFAULT_RERANKING_MODEL, ModelEntry, ServeSettings, Task
from tests.unit.runtime.fakes import COMMIT, EMBEDDER, RERANKER, known

CATALOGUE = known(
    {
        "BAAI/bge-m3": "dense",
        "BAAI/bge-m3@fastembed-rs": "dense",
        DEFAULT_RERANKING_MODEL: "rerank",
        "org/colbert": "late_interaction",
    }
)
CACHED: dict[str, Task | None] = {"org/cached": "rerank", "org/odd": None}
LOCAL = Wanted("local", folder=Path("/models/local"))


def _settings(entries: tuple[ModelEntry, ...] = (), **values: Any) -> ServeSettings:
    settings = ServeSettings.model_construct(**values)
    # Where the property keeps what it once read from the file.
    settings.__dict__["models"] = entries
    return settings


def _names(patterns: tuple[str, ...] | None = None, **lazy: Wanted) -> Names:
    named = {"org/embedder": EMBEDDER, "org/reranker": RERANKER, "small": EMBEDDER, "local": LOCAL}
    defaults: dict[Task, Wanted] = {"embed": EMBEDDER}
    if not lazy:
        defaults["rerank"] = RERANKER
    return Names(Configured(defaults, {"rerank": lazy["rerank"]} if lazy else {}, named), patterns, CATALOGUE)


@pytest.mark.parametrize(
    ("name", "task", "expected"),
    [
        (None, "embed", EMBEDDER),
        (None, "rerank", RERANKER),
        ("org/embedder", "embed", EMBEDDER),
        ("org/embedder@main", "embed", EMBEDDER),
        ("small", "embed", EMBEDDER),
        ("small@v2", "embed", Wanted("org/embedder", "v2", "embed")),
        (f"org/embedder@{COMMIT}", "embed", Wanted("org/embedder", COMMIT, "embed")),
        ("local", "rerank", LOCAL),
        ("BAAI/bge-m3", "embed", Wanted("BAAI/bge-m3")),
        ("BAAI/bge-m3@feature/x", "embed", Wanted("BAAI/bge-m3", "feature/x")),
        ("BAAI/bge-m3@fastembed-rs", "embed", Wanted("BAAI/bge-m3@fastembed-rs")),
        (f"BAAI/bge-m3@fastembed-rs@{COMMIT}", "embed", Wanted("BAAI/bge-m3@fastembed-rs", COMMIT)),
        ("org/cached", "rerank", Wanted("org/cached")),
        ("org/odd", "embed", Wanted("org/odd")),
    ],
)
def test_a_name_means_a_model(name: str | None, task: Task, expected: Wanted) -> None:
    assert _names().resolve(name, task, CACHED) == expected


@pytest.mark.parametrize(
    "name",
    ["", "other", "ORG/embedder", "org/embedder@", "org/embedder@refs/pr/1", "org/embedder@../x",
     "local@main", "BAAI/bge-m3@fastembed-py", "org/embedder@fastembed-rs", "small@fastembed-rs",
     "BAAI/bge-m3@fastembed-rs@", "BAAI/bge-m3@fastembed-rs@refs/pr/1", "../../etc",
     "org/cached/x", "org/embedder@a//b", "BAAI/bge-m3@a b", "x" * 5000],
)  # fmt: skip
def test_what_means_nothing_is_told_what_is_served(name: str) -> None:
    with pytest.raises(UnknownModelError, match="served: org/embedder, org/reranker, small, local") as caught:
        _names().resolve(name, "embed", CACHED)
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("org/embeder", "org/embedder"),
        ("ORG/Embedder", "org/embedder"),
        ("baai/BGE-M3@main", "BAAI/bge-m3"),
        ("bge-m3", "BAAI/bge-m3"),
        ("bge-reranker", DEFAULT_RERANKING_MODEL),
        ("org/cache", "org/cached"),
        ("entirely-else", None),
    ],
)
def test_a_404_names_the_nearest(name: str, near: str | None) -> None:
    with pytest.raises(UnknownModelError) as caught:
        _names().resolve(name, "embed", CACHED)
    assert (f"the nearest is {near!r}" in caught.value.message) is (near is not None)


def test_many_names_are_not_listed_in_a_message() -> None:
    named = {f"org/m{n}": Wanted(f"org/m{n}") for n in range(20)}
    with pytest.raises(UnknownModelError, match="GET /models lists what is served"):
        Names(Configured({}, {}, named), None, known({})).resolve("x", "embed", {})


@pytest.mark.parametrize(
    ("patterns", "name", "allowed"),
    [
        (None, "BAAI/bge-m3", True),
        (None, "org/new", False),
        (("org/*",), "org/new", True),
        (("org/*",), "BAAI/bge-m3", False),
        (("org/*",), "org/cached", True),
        (("BAAI/*",), "org/cached", False),
        (("BAAI/*",), "org/embedder", True),
        (("org/new",), "org/newer", False),
        ((), "org/cached", False),
        (("*",), "any/thing@v1", True),
        (("ORG/*",), "org/new", False),
    ],
)
def test_patterns_decide_beside_what_is_configured(
    patterns: tuple[str, ...] | None, name: str, allowed: bool
) -> None:
    names = _names(patterns)
    if allowed:
        assert names.resolve(name, "embed" if name != "org/cached" else "rerank", CACHED).name in name
    else:
        with pytest.raises(UnknownModelError):
            names.resolve(name, "embed", CACHED)


@pytest.mark.parametrize(
    ("name", "task", "words"),
    [
        ("org/reranker", "embed", "org/reranker is a reranking model; ask it at /rerank"),
        ("small", "rerank", "org/embedder is an embedding model; ask it at /embed"),
        ("BAAI/bge-m3@x", "rerank", "ask it at /embed"),
        ("org/cached", "embed", "ask it at /rerank"),
    ],
)
def test_the_wrong_task_names_the_right_endpoint(name: str, task: Task, words: str) -> None:
    with pytest.raises(WrongTaskError, match=words):
        _names().resolve(name, task, CACHED)


def test_a_kind_that_is_not_served_is_told_what_it_is() -> None:
    with pytest.raises(UnsupportedModelRequestError, match="org/colbert is a late interaction model"):
        _names().resolve("org/colbert", "embed", {"org/colbert": "embed"})
    with pytest.raises(UnknownModelError):
        _names(("BAAI/*",)).resolve("org/colbert", "embed", {})
    assert "org/colbert" not in _names().allowed(["org/colbert"])


def test_a_variant_is_allowed_by_its_whole_name() -> None:
    for pattern in ("BAAI/*", "*@fastembed-rs"):
        assert _names((pattern,)).resolve("BAAI/bge-m3@fastembed-rs", "embed", {}).name.endswith("-rs")
    with pytest.raises(UnknownModelError):
        _names(("BAAI/bge-m3",)).resolve("BAAI/bge-m3@fastembed-rs", "embed", {})


def test_no_default_says_so() -> None:
    names = Names(Configured({"embed": EMBEDDER}, {}, {"org/embedder": EMBEDDER}), None, CATALOGUE)
    with pytest.raises(UnknownModelError, match="no reranking model is configured; served: org/embedder"):
        names.resolve(None, "rerank", CACHED)


def test_a_lazy_default_answers_unless_it_is_not_allowed() -> None:
    lazy = Wanted(DEFAULT_RERANKING_MODEL)
    assert _names(rerank=lazy).resolve(None, "rerank", {}) == lazy
    with pytest.raises(UnknownModelError, match="ALLOWED_MODELS leaves BAAI/bge-reranker-base out"):
        _names(("org/*",), rerank=lazy).resolve(None, "rerank", {})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, "org/embedder"),
        ("small", "org/embedder"),
        ("org/embedder@x", "org/embedder"),
        ("org/loaded@x", "org/loaded"),
        ("BAAI/bge-m3", "unknown"),
        ("evil", "unknown"),
        ("", "unknown"),
    ],
)
def test_clients_choose_no_labels(name: str | None, expected: str) -> None:
    assert _names().label(name, "embed", {"org/loaded"}) == expected


def test_the_cache_matters_only_for_what_is_not_configured() -> None:
    names = _names()
    assert [names.needs_cache(name) for name in (None, "small@x", "org/embedder", "org/cached")] == [
        False, False, False, True,
    ]  # fmt: skip


def test_who_names_a_model_decides_whose_mistake_its_absence_is() -> None:
    names = _names()
    assert not names.is_asked_for_only(EMBEDDER)
    assert names.is_asked_for_only(Wanted("org/embedder", "v2", "embed"))


@pytest.mark.parametrize(("name", "expected"), [("x" * 1000, None), ("a", None)])
def test_the_nearest_is_not_looked_for_at_any_cost(name: str, expected: str | None) -> None:
    assert nearest(name, {"org/embedder"}) == expected


def test_unset_settings_preload_one_model_and_keep_the_other_for_later() -> None:
    found = configured(_settings())
    assert list(found.defaults) == ["embed"]
    assert found.lazy == {"rerank": Wanted(DEFAULT_RERANKING_MODEL)}
    assert found.default("rerank") == Wanted(DEFAULT_RERANKING_MODEL)
    assert configured(_settings(default_reranking_model="")).default("rerank") is None
    assert configured(_settings(default_embedding_model="")).default("embed") is None


def test_a_default_may_be_an_id_a_revision_or_a_name_of_the_file() -> None:
    entry = ModelEntry.model_validate(
        {"id": "org/m@v1", "served_names": ["alias"], "max_length": 64, "fingerprint": "a" * 64}
    )
    base = Wanted("org/m", "v1", overrides=Overrides(max_length=64), fingerprint="a" * 64)
    for text in ("org/m", "alias", "org/m@v1"):
        found = configured(_settings((entry,), default_embedding_model=text))
        default = found.defaults["embed"]
        assert default == replace(base, task="embed")
        # Every name of the entry means the default, which is loaded once.
        assert found.named == {"org/m": default, "alias": default}
        assert found.served_names("org/m") == ("alias",)
    found = configured(_settings((entry,), default_embedding_model="org/m@v2"))
    assert found.defaults["embed"] == Wanted("org/m", "v2", "embed", overrides=Overrides(max_length=64))
    assert found.named == {"org/m": base, "alias": base}


def test_the_file_and_fingerprint_of_the_environment_are_the_only_defaults() -> None:
    found = configured(
        _settings(
            default_embedding_model="org/m",
            default_reranking_model="",
            model_file="onnx/x.onnx",
            expected_fingerprint="b" * 64,
        )
    )
    assert found.defaults == {
        "embed": Wanted("org/m", task="embed", file="onnx/x.onnx", fingerprint="b" * 64)
    }
