"""The catalogue: whole, and each entry of it resolves to a recipe or to a clear refusal."""

import json
import re
from pathlib import Path

import pytest

from embedding_runtime.errors import UnsupportedModelError
from embedding_runtime.model.origins import Origin, origins
from embedding_runtime.model.recipe import AS_IT_IS, Recipe, read_recipe
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.registry.catalogue import NOTHING, SERVED_KINDS, Entry, FillIns, catalogue
from embedding_runtime.settings import DEFAULT_EMBEDDING_MODEL, DEFAULT_RERANKING_MODEL, POOLINGS
from tests.unit.runtime import made

# What the API document lists under "Supported Models".
DOCUMENTED = {
    "BAAI/bge-small-en-v1.5": "embed",
    "BAAI/bge-base-en-v1.5": "embed",
    "BAAI/bge-large-en-v1.5": "embed",
    "sentence-transformers/all-MiniLM-L6-v2": "embed",
    "BAAI/bge-m3": "embed",
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2": "embed",
    "jinaai/jina-embeddings-v2-base-code": "embed",
    "jinaai/jina-embeddings-v2-base-en": "embed",
    "BAAI/bge-reranker-base": "rerank",
    "BAAI/bge-reranker-large": "rerank",
    "cross-encoder/ms-marco-MiniLM-L-6-v2": "rerank",
}

# The lists of FastEmbed's two projects, at the commits that the catalogue names.
_FASTEMBED_RS = """
AllMiniLML6V2 AllMiniLML6V2Q AllMiniLML12V2 AllMiniLML12V2Q AllMpnetBaseV2 BGEBaseENV15
BGEBaseENV15Q BGELargeENV15 BGELargeENV15Q BGESmallENV15 BGESmallENV15Q NomicEmbedTextV1
NomicEmbedTextV15 NomicEmbedTextV15Q ParaphraseMLMiniLML12V2Q ParaphraseMLMiniLML12V2
ParaphraseMLMpnetBaseV2 BGESmallZHV15 BGELargeZHV15 BGEM3 ModernBertEmbedLarge MultilingualE5Small
MultilingualE5Base MultilingualE5Large MxbaiEmbedLargeV1 MxbaiEmbedLargeV1Q GTEBaseENV15
GTEBaseENV15Q GTELargeENV15 GTELargeENV15Q ClipVitB32 JinaEmbeddingsV2BaseCode
JinaEmbeddingsV2BaseEN EmbeddingGemma300M EmbeddingGemma300MQ4 EmbeddingGemma300MQ
SnowflakeArcticEmbedXS SnowflakeArcticEmbedXSQ SnowflakeArcticEmbedS SnowflakeArcticEmbedSQ
SnowflakeArcticEmbedM SnowflakeArcticEmbedMQ SnowflakeArcticEmbedMLong SnowflakeArcticEmbedMLongQ
SnowflakeArcticEmbedL SnowflakeArcticEmbedLQ SparseModel::SPLADEPPV1 SparseModel::BGEM3
Bgem3Model::BGEM3Q RerankerModel::BGERerankerBase RerankerModel::BGERerankerV2M3
RerankerModel::JINARerankerV1TurboEn RerankerModel::JINARerankerV2BaseMultiligual
nomic-ai/nomic-embed-text-v2-moe Qwen/Qwen3-Embedding-0.6B(candle) Qwen/Qwen3-Embedding-4B
Qwen/Qwen3-Embedding-8B Qwen/Qwen3-VL-Embedding-2B
"""
_FASTEMBED_PY = """
BAAI/bge-base-en BAAI/bge-base-en-v1.5 BAAI/bge-large-en-v1.5 BAAI/bge-small-en
BAAI/bge-small-en-v1.5 BAAI/bge-small-zh-v1.5 mixedbread-ai/mxbai-embed-large-v1
snowflake/snowflake-arctic-embed-xs snowflake/snowflake-arctic-embed-s
snowflake/snowflake-arctic-embed-m snowflake/snowflake-arctic-embed-m-long
snowflake/snowflake-arctic-embed-l jinaai/jina-clip-v1 Qdrant/clip-ViT-B-32-text
google/siglip2-base-patch16-224 sentence-transformers/all-MiniLM-L6-v2
jinaai/jina-embeddings-v2-base-en jinaai/jina-embeddings-v2-small-en
jinaai/jina-embeddings-v2-base-de jinaai/jina-embeddings-v2-base-code
jinaai/jina-embeddings-v2-base-zh jinaai/jina-embeddings-v2-base-es thenlper/gte-base
thenlper/gte-large nomic-ai/nomic-embed-text-v1.5 nomic-ai/nomic-embed-text-v1.5-Q
nomic-ai/nomic-embed-text-v1 sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2
sentence-transformers/paraphrase-multilingual-mpnet-base-v2 intfloat/multilingual-e5-large
jinaai/jina-embeddings-v3 google/embeddinggemma-300m Qwen/Qwen3-Embedding-0.6B
Qwen/Qwen3-Embedding-0.6B-Q prithivida/Splade_PP_en_v1 prithvida/Splade_PP_en_v1
opensearch-project/opensearch-neural-sparse-encoding-doc-v3-gte
Qdrant/bm42-all-minilm-l6-v2-attentions Qdrant/bm25 Qdrant/minicoil-v1 Xenova/ms-marco-MiniLM-L-6-v2
Xenova/ms-marco-MiniLM-L-12-v2 BAAI/bge-reranker-base jinaai/jina-reranker-v1-tiny-en
jinaai/jina-reranker-v1-turbo-en jinaai/jina-reranker-v2-base-multilingual
"""
FASTEMBED_RS, FASTEMBED_PY = _FASTEMBED_RS.split(), _FASTEMBED_PY.split()

ENTRIES = catalogue().entries
LICENSES = {"apache-2.0", "mit", "cc-by-nc-4.0", "gemma"}


def _named(entry: Entry) -> str:
    return entry.name


def _ids(library: str) -> list[str]:
    """What the entries of a library say that they are called there."""
    found = [source for entry in ENTRIES if entry.name.endswith(f"@{library}") for source in entry.source]
    return [source.partition(": ")[2].replace(" ", "") for source in found if source.startswith(library)]


def test_every_documented_model_is_served_with_its_task() -> None:
    assert {name: catalogue().task(name) for name in DOCUMENTED} == DOCUMENTED
    assert catalogue().task(DEFAULT_EMBEDDING_MODEL) == "embed"
    assert catalogue().task(DEFAULT_RERANKING_MODEL) == "rerank"


def test_every_model_of_fastembed_is_an_entry_of_its_own() -> None:
    assert (len(FASTEMBED_RS), len(FASTEMBED_PY)) == (58, 46)
    assert sorted(_ids("fastembed-rs")) == sorted(FASTEMBED_RS)
    assert sorted(_ids("fastembed-py")) == sorted(FASTEMBED_PY)


@pytest.mark.parametrize("ident", [each for each in FASTEMBED_RS if re.fullmatch(r"[A-Z]\w+", each)])
def test_a_name_of_the_enumeration_is_a_name_here(ident: str) -> None:
    found = catalogue().find(f"{ident}@fastembed-rs")
    assert found is not None
    assert found.source[0].endswith(f": {ident}")


def test_what_fastembed_calls_a_model_is_a_name_here() -> None:
    for ident in FASTEMBED_PY:
        found = catalogue().find(f"{ident}@fastembed-py")
        assert found is not None
        assert found.source[0].endswith(f": {ident}")
        assert catalogue().find(ident) is not None


def test_names_are_unique() -> None:
    names = [name for entry in ENTRIES for name in (entry.name, *entry.also)]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[\w.-]+(/[\w.-]+)?(@fastembed-(rs|py))?", name) for name in names)


@pytest.mark.parametrize("entry", ENTRIES, ids=_named)
def test_an_entry_is_complete(entry: Entry) -> None:
    assert entry.license is None or entry.license in LICENSES
    assert entry.source
    assert all(entry.source)
    assert entry.fill_ins.pooling is None or set(entry.fill_ins.pooling) <= set(POOLINGS)
    assert entry.file is None or re.fullmatch(r"[\w./-]+\.onnx", entry.file)
    assert entry.repository is None or re.fullmatch(r"[\w.-]+/[\w.-]+", entry.repository)
    if entry.kind == "dense" and entry.is_served:
        assert entry.dimensions
    if entry.fill_ins.matryoshka:
        assert max(entry.fill_ins.matryoshka) == entry.dimensions
        assert f"the model card of {entry.name}" in entry.source
    if entry.is_variant and entry.is_served:
        assert entry.repository
        assert entry.file


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.is_served], ids=_named)
def test_an_entry_that_is_served_resolves_to_a_whole_recipe(entry: Entry, tmp_path: Path) -> None:
    """From a repository that says nothing beside what every tokenizer and graph needs."""
    found = origins(Wanted(entry.name))
    recipe = _recipe(entry, found[-1], tmp_path)
    assert recipe.task == entry.task
    assert recipe.max_tokens == (entry.fill_ins.max_length or 100)
    if entry.task == "embed":
        assert recipe.pooling == entry.fill_ins.pooling
        assert recipe.normalize is entry.fill_ins.normalize
        assert not recipe.assumed
    if entry.is_variant:
        assert [origin.ref.id for origin in found] == [entry.repository]
        assert found[0].file == entry.file
    else:
        assert found[0].ref.id == entry.name
        assert [origin.ref.id for origin in found[1:]] == ([entry.repository] if entry.repository else [])


def _recipe(entry: Entry, origin: Origin, folder: Path) -> Recipe:
    if entry.task == "rerank":
        made.write_reranker(folder)
    else:
        made.write_embedder(folder, modules=False)
    config = json.loads((folder / "config.json").read_text())
    config.pop("max_position_embeddings", None)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 100}')
    return read_recipe(folder, entry.name, origin.overrides, origin.fill_ins)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if not entry.is_served], ids=_named)
def test_an_entry_that_is_not_served_says_what_it_is(entry: Entry) -> None:
    assert catalogue().task(entry.name) is None
    with pytest.raises(UnsupportedModelError, match=f"^{re.escape(entry.name)} is an? .*does not run yet"):
        origins(Wanted(entry.name))
    assert entry.kind not in SERVED_KINDS or entry.needs


def test_a_variants_own_settings_hold_whatever_the_repository_says(tmp_path: Path) -> None:
    folder = made.write_embedder(tmp_path / "m", max_tokens=16)
    (origin,) = origins(Wanted("nomic-ai/nomic-embed-text-v1.5@fastembed-py"))
    recipe = read_recipe(folder, "m", origin.overrides, origin.fill_ins)
    assert (recipe.pooling, recipe.normalize, recipe.max_tokens) == (("mean",), False, 8192)


def test_a_plain_name_keeps_what_its_repository_says(tmp_path: Path) -> None:
    folder = made.write_embedder(tmp_path / "m", max_tokens=16)
    fill_ins = FillIns(("cls",), False, 99, (("query", "q: "),), (2, 4))
    recipe = read_recipe(folder, "m", AS_IT_IS, fill_ins)
    assert (recipe.pooling, recipe.normalize, recipe.max_tokens) == (("mean",), True, 16)
    assert (recipe.prompts, recipe.matryoshka) == ((("query", "q: "),), (2, 4))
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "own: "}}')
    assert read_recipe(folder, "m", AS_IT_IS, fill_ins).prompts == (("query", "own: "),)
    assert read_recipe(folder, "m", AS_IT_IS, NOTHING).matryoshka == ()
