"""A real model's vectors: near those of its exact graph in every precision, and the same in any company."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from embedding_runtime.engine.backend import Backend, Execution, Float32, Tokens
from embedding_runtime.engine.choice import make_backend
from embedding_runtime.engine.openvino_backend import precisions
from embedding_runtime.model.precision import computed_in
from embedding_runtime.model.prepared import Target
from embedding_runtime.model.source import ModelSource, open_source
from embedding_runtime.registry.cache import find_folder
from embedding_runtime.service.preparation import prepare
from embedding_runtime.service.tokenization import Tokenization
from embedding_runtime.settings import Precision
from tests.golden.texts import LONG, ORDINARY

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
TEXTS = [*ORDINARY, *(LONG * times for times in range(1, 5)), *(f"{text} {LONG}" for text in ORDINARY)]
TEXTS += [" ".join(pair) for pair in zip(ORDINARY, reversed(ORDINARY), strict=True)]
COMPANY = 64


@dataclass(frozen=True)
class Way:
    """A provider and a precision; the least cosine to the exact vectors, and to those of other company."""

    provider: str
    precision: Precision
    exact: float
    company: float


WAYS = [
    Way("cpu", "fp32", 0.99999, 1 - 1e-7),
    Way("cpu", "int8", 0.98, 0.9999),
    Way("openvino", "fp32", 0.99999, 1 - 1e-7),
    Way("openvino", "bf16", 0.999, 0.99998),
]


@pytest.fixture(scope="module")
def source(real_models: Path) -> ModelSource:
    return open_source(find_folder(real_models / MODEL, MODEL, None), None)


@pytest.fixture(scope="module")
def texts(source: ModelSource) -> list[Tokens]:
    return Tokenization(source.tokenizer_path, source.recipe).embed(TEXTS)


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


def _loaded(source: ModelSource, folder: Path, provider: str, precision: Precision) -> Backend:
    graph = prepare(source, Target.of(source, precision), [folder])
    assert graph.note is None
    backend = make_backend(graph, source.recipe, Execution(provider, 2, computed_in(precision, "fp32")))
    backend.load()
    return backend


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: f"{way.provider}-{way.precision}")
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    if found.precision == "bf16" and "bf16" not in precisions():
        pytest.skip("this CPU has neither AMX nor AVX512-BF16")
    return found


@pytest.fixture(scope="module")
def backend(source: ModelSource, prepared_dir: Path, way: Way) -> Iterator[Backend]:
    backend = _loaded(source, prepared_dir, way.provider, way.precision)
    assert backend.precision == way.precision
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def exact(source: ModelSource, prepared_dir: Path, texts: list[Tokens]) -> Float32:
    backend = _loaded(source, prepared_dir, "cpu", "fp32")
    return np.concatenate([backend.run([text]) for text in texts])


def _least_cosine(left: Float32, right: Float32) -> float:
    one, other = (rows.astype(np.float64) for rows in (left, right))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / lengths).min())


def test_vectors_stay_near_the_exact_ones(
    backend: Backend, way: Way, texts: list[Tokens], exact: Float32
) -> None:
    rows = np.concatenate([backend.run(texts[:COMPANY]), backend.run(texts[COMPANY:])])
    assert _least_cosine(rows, exact) > way.exact


def test_a_text_has_the_same_vector_alone_and_among_63_others(
    backend: Backend, way: Way, texts: list[Tokens]
) -> None:
    together = backend.run(texts[:COMPANY])
    alone = np.concatenate([backend.run([text]) for text in texts[:COMPANY]])
    assert _least_cosine(together, alone) > way.company
    if way.precision == "fp32":
        assert float(np.abs(together - alone).max()) <= 1e-6
