"""The list of well-known models."""

import re

from embedding_runtime.registry.known import known_models
from embedding_runtime.settings import DEFAULT_EMBEDDING_MODEL, DEFAULT_RERANKING_MODEL

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


def test_every_documented_model_is_known_with_its_task() -> None:
    assert {name: known_models().get(name) for name in DOCUMENTED} == DOCUMENTED


def test_the_defaults_are_known() -> None:
    assert known_models()[DEFAULT_EMBEDDING_MODEL] == "embed"
    assert known_models()[DEFAULT_RERANKING_MODEL] == "rerank"


def test_every_name_is_a_repository() -> None:
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", name) for name in known_models())
