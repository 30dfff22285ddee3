"""Where a model's files are looked for, and which repository answers for its name."""

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from embedding_runtime.errors import HubUnreachableError, ModelNotFoundError, NotCachedError, NoWeightsError
from embedding_runtime.model.obtain import Access, acquire
from embedding_runtime.model.origins import of_folder, origins
from embedding_runtime.model.recipe import Overrides
from embedding_runtime.model.source import ModelSource
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.registry.catalogue import catalogue
from embedding_runtime.registry.reference import ModelRef
from embedding_runtime.service.cached_names import CachedNames
from tests.unit.runtime import made
from tests.unit.runtime.fakes import COMMIT

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
EXPORT = "Qdrant/all-MiniLM-L6-v2-onnx"
OTHER = "f" * 40


def _refs(wanted: Wanted) -> list[str]:
    return [str(origin.ref) for origin in origins(wanted)]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted("org/unlisted", "v1"), ["org/unlisted@v1"]),
        (Wanted(MINILM), [MINILM, EXPORT]),
        (Wanted(MINILM, COMMIT), [f"{MINILM}@{COMMIT}", f"{EXPORT}@{COMMIT}"]),
        (Wanted(MINILM, "v1"), [f"{MINILM}@v1"]),
        (Wanted(MINILM, file="onnx/model_O3.onnx"), [MINILM]),
        (Wanted(MINILM, COMMIT, file="model.onnx"), [f"{MINILM}@{COMMIT}", f"{EXPORT}@{COMMIT}"]),
        (Wanted(f"{MINILM}@fastembed-rs"), [EXPORT]),
        (Wanted(f"{MINILM}@fastembed-rs", COMMIT), [f"{EXPORT}@{COMMIT}"]),
        (Wanted("AllMiniLML6V2Q@fastembed-rs"), ["Xenova/all-MiniLM-L6-v2"]),
        (Wanted("nomic-ai/nomic-embed-text-v1.5-Q"), ["nomic-ai/nomic-embed-text-v1.5"]),
    ],
)
def test_a_name_has_its_own_repository_a_substitute_or_that_of_the_variant(
    wanted: Wanted, expected: list[str]
) -> None:
    assert _refs(wanted) == expected


def test_a_variant_that_there_is_not_is_refused() -> None:
    with pytest.raises(ModelNotFoundError, match="the catalogue has no org/unlisted@fastembed-rs"):
        origins(Wanted("org/unlisted@fastembed-rs"))


def test_who_says_otherwise_is_heard_before_the_catalogue() -> None:
    said = Overrides(normalize=False, max_length=64)
    (origin,) = origins(Wanted(f"{MINILM}@fastembed-rs", file="other.onnx", overrides=said))
    assert (origin.file, origin.overrides) == ("other.onnx", replace(said, pooling=("mean",)))


def test_a_folder_is_whatever_its_owner_says_it_is() -> None:
    folder = Path("/models/x")
    assert of_folder(Wanted("Qdrant/bm25", folder=folder)).ref == ModelRef("Qdrant/bm25")
    assert of_folder(Wanted("org/unlisted", folder=folder)).overrides == Overrides()
    variant = of_folder(Wanted("BAAI/bge-base-en-v1.5-Q@fastembed-rs", folder=folder))
    assert (variant.file, variant.overrides.pooling) == ("model_optimized.onnx", ("cls",))


def _access(home: Path) -> Access:
    return Access(home / "hub", "http://nowhere.invalid", None, offline=True)


def _acquired(home: Path, wanted: Wanted) -> ModelSource:
    return acquire(wanted, _access(home), lambda _had, _total: None)


def _export(home: Path, model: str = EXPORT, commit: str = COMMIT) -> None:
    """A repository as exporters leave it: the graph at the top, and no word about pooling."""
    folder = made.write_embedder(home / "export", modules=False)
    shutil.move(folder / "onnx/model.onnx", folder / "model.onnx")
    made.cache(home, model, commit, folder)


def test_offline_a_models_own_repository_goes_before_its_substitute(tmp_path: Path) -> None:
    _export(tmp_path)
    source = _acquired(tmp_path, Wanted(MINILM))
    assert (source.id, source.repository, source.graph) == (MINILM, EXPORT, "model.onnx")
    assert (source.recipe.pooling, source.recipe.normalize) == (("mean",), True)
    made.cache(tmp_path, MINILM, OTHER, made.write_embedder(tmp_path / "own"))
    own = _acquired(tmp_path, Wanted(MINILM))
    assert (own.id, own.repository, own.commit) == (MINILM, None, OTHER)
    # A commit is one of the repository that has it.
    assert _acquired(tmp_path, Wanted(MINILM, COMMIT)).repository == EXPORT
    assert _acquired(tmp_path, Wanted(MINILM, OTHER)).repository is None


def test_a_repository_without_weights_leaves_it_to_the_substitute(tmp_path: Path) -> None:
    own = made.write_embedder(tmp_path / "own")
    shutil.rmtree(own / "onnx")
    (own / "model.bin").write_bytes(b"x")
    made.cache(tmp_path, MINILM, OTHER, own)
    with pytest.raises(NoWeightsError, match=f"{MINILM} has neither an ONNX file"):
        _acquired(tmp_path, Wanted(MINILM))
    _export(tmp_path)
    assert _acquired(tmp_path, Wanted(MINILM)).repository == EXPORT


def test_what_is_nowhere_is_told_of_the_models_own_repository(tmp_path: Path) -> None:
    with pytest.raises(NotCachedError, match=f"{MINILM} at revision main.*prefetch {MINILM}`"):
        _acquired(tmp_path, Wanted(MINILM))
    with pytest.raises(NotCachedError, match=f"{EXPORT} at revision main.*prefetch {MINILM}@fastembed-rs`"):
        _acquired(tmp_path, Wanted(f"{MINILM}@fastembed-rs"))


def test_a_repository_is_found_as_another_client_spelt_it(tmp_path: Path) -> None:
    _export(tmp_path, EXPORT.lower())
    assert _acquired(tmp_path, Wanted(f"{MINILM}@fastembed-rs")).commit == COMMIT
    assert _acquired(tmp_path, Wanted(f"{MINILM}@fastembed-py")).commit == COMMIT


def test_a_hub_that_does_not_answer_leaves_the_cached_substitute_unless_that_will_not_do(
    tmp_path: Path,
) -> None:
    _export(tmp_path)
    access = replace(_access(tmp_path), endpoint="http://127.0.0.1:9", offline=False)

    def acquired(wanted: Wanted, access: Access) -> ModelSource:
        return acquire(wanted, access, lambda _had, _total: None)

    assert acquired(Wanted(MINILM), access).repository == EXPORT
    # The operator's Job has to know what the branch means now; a commit that is cached needs no hub.
    strict = replace(access, cached_if_down=False)
    with pytest.raises(HubUnreachableError, match=r"127\.0\.0\.1:9"):
        acquired(Wanted(MINILM), strict)
    assert acquired(Wanted(MINILM, COMMIT), strict).repository == EXPORT
    with pytest.raises(HubUnreachableError, match=r"127\.0\.0\.1:9"):
        acquired(Wanted("thenlper/gte-large"), access)


def test_names_that_a_cached_repository_answers_for_are_listed(tmp_path: Path) -> None:
    _export(tmp_path)
    found = asyncio.run(CachedNames(tmp_path / "hub", catalogue()).tasks())
    assert found == dict.fromkeys(
        (EXPORT, MINILM, f"{MINILM}@fastembed-rs", f"{MINILM}@fastembed-py"), "embed"
    )
