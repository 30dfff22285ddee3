"""What a model gives beside its rows: the same from every backend, alone and in company."""

from pathlib import Path

import numpy as np
import pytest

from embedding_runtime.engine.backend import Backend, Execution, Extra, Tokens
from embedding_runtime.engine.choice import make_backend
from embedding_runtime.errors import UnsupportedFieldError
from embedding_runtime.model.prepared import Prepared, Target
from embedding_runtime.model.source import ModelSource, open_source
from embedding_runtime.registry.cache import find_folder
from embedding_runtime.service.preparation import prepare
from tests.unit.runtime import made

BESIDE: list[Extra] = ["norm", "tokens"]
TEXTS = ["red cat", "blue dog runs quickly", "bird"]


def _tokens(text: str) -> Tokens:
    return Tokens(np.array([made.CLS, *made.ids(text), made.SEP], dtype=np.int32))


def _source(folder: Path) -> ModelSource:
    return open_source(find_folder(folder, "m", None), None)


def _loaded(source: ModelSource, folder: Path, provider: str, *, plain: bool) -> Backend:
    graph = Prepared.as_it_is(source) if plain else prepare(source, Target.of(source), [folder])
    assert graph.plain is plain
    backend = make_backend(graph, source.recipe, Execution(provider, 1, "fp32"))
    backend.load()
    return backend


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_lengths_and_token_vectors_come_with_the_rows(tmp_path: Path, provider: str, plain: bool) -> None:
    source = _source(made.write_embedder(tmp_path / "model"))
    backend = _loaded(source, tmp_path / "prepared", provider, plain=plain)
    assert backend.gives == {"norm", "tokens"}
    texts = [_tokens(text) for text in TEXTS]
    together = backend.run_with(texts, BESIDE)
    np.testing.assert_allclose(together.rows, backend.run(texts), atol=1e-6)
    for at, (text, row) in enumerate(zip(texts, together.rows, strict=True)):
        (length,), vectors = together.extras["norm"][at], together.extras["tokens"][at]
        assert vectors.shape == (len(text), made.WIDTH)
        # It is pooled by the mean, and then made a vector of length 1.
        np.testing.assert_allclose(vectors.mean(axis=0), row * length, rtol=1e-5)
        alone = backend.run_with([text], BESIDE)
        np.testing.assert_allclose(alone.extras["tokens"][0], vectors, atol=1e-6)
        np.testing.assert_allclose(alone.extras["norm"][0], [length], rtol=1e-5)
    # What was given stays as it was when the next batch runs.
    kept = [part.copy() for part in together.extras["tokens"]]
    backend.run_with([_tokens("red red red red red")] * 3, BESIDE)
    for before, after in zip(kept, together.extras["tokens"], strict=True):
        np.testing.assert_array_equal(before, after)
    backend.close()


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_a_graph_that_pools_by_itself_has_lengths_and_no_token_vectors(
    tmp_path: Path, provider: str, plain: bool
) -> None:
    source = _source(made.write_pooled(tmp_path / "model"))
    backend = _loaded(source, tmp_path / "prepared", provider, plain=plain)
    assert backend.gives == {"norm"}
    found = backend.run_with([_tokens("red cat")], ["norm"])
    assert found.extras["norm"][0].item() > 0
    with pytest.raises(UnsupportedFieldError, match="a vector for each token"):
        backend.run_with([_tokens("red cat")], ["tokens"])
    backend.close()
