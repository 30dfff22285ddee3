"""Inputs that follow from the tokens: decoders give the same in the graph and beside it, in any company."""

from pathlib import Path

import numpy as np
import pytest

from embedding_runtime.engine.backend import Execution, Tokens
from embedding_runtime.engine.choice import make_backend
from embedding_runtime.engine.fusion import fused_nodes
from embedding_runtime.errors import UnsupportedModelError
from embedding_runtime.model.derived import Derived
from embedding_runtime.model.prepared import Prepared, Target
from embedding_runtime.model.source import open_source
from embedding_runtime.registry.cache import find_folder
from embedding_runtime.service.preparation import prepare
from tests.unit.runtime import made

TEXTS = ["red cat", "blue dog runs quickly", ""]


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("provider", ["cpu", "openvino"])
@pytest.mark.parametrize(("positions", "memory"), [(True, True), (True, False), (False, True)])
def test_a_decoder_reads_from_the_left(
    tmp_path: Path, provider: str, plain: bool, positions: bool, memory: bool
) -> None:
    folder = made.write_decoder(tmp_path / "model", positions=positions, memory=memory)
    source = open_source(find_folder(folder, "m", None), None)
    graph = (
        Prepared.as_it_is(source) if plain else prepare(source, Target.of(source), [tmp_path / "prepared"])
    )
    assert graph.plain is plain
    backend = make_backend(graph, source.recipe, Execution(provider, 1, "fp32"))
    backend.load()
    texts = [Tokens(np.array([made.CLS, *made.ids(text), made.SEP], dtype=np.int32)) for text in TEXTS]
    expected = [made.read_from_the_left(text, positions=positions) for text in TEXTS]
    np.testing.assert_allclose(backend.run(texts), expected, atol=1e-5)
    np.testing.assert_allclose(backend.run(texts[:1]), expected[:1], atol=1e-5)
    backend.close()
    assert fused_nodes(graph.path) == {}


@pytest.mark.parametrize("shape", [["b", "h", "s", 8], ["b", 2, "s"], [], ["b", 2, "s", 0]])
def test_a_memory_of_unknown_size_is_refused(shape: list[object]) -> None:
    with pytest.raises(UnsupportedModelError, match="wants a memory past_key_values"):
        Derived.of("past_key_values.0.key", shape)


def test_what_does_not_follow_from_the_tokens_is_not_derived() -> None:
    assert Derived.of("pixel_values", ["b", 3, 224, 224]) is None
    assert Derived.of("use_cache_branch", [1]) == Derived("use_cache_branch", "branch")
    assert Derived("use_cache_branch", "branch").array(
        np.ones((2, 3), np.int32), np.dtype(bool)
    ).tolist() == [False]
