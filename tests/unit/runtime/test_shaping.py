"""Vectors as a request wants them."""

from dataclasses import replace

import numpy as np
import pytest

from embedding_runtime.engine.backend import Float32
from embedding_runtime.errors import InvalidRequestError, UntrainedDimensionsError
from embedding_runtime.model.recipe import Recipe
from embedding_runtime.service.queries import EmbedQuery
from embedding_runtime.service.shaping import check_dimensions, extras, shaped
from embedding_runtime.service.wire import Rows

UNIT = Recipe("embed", "tokenizer.json", 16, 0, ("mean",), normalize=True)
AS_IT_IS = replace(UNIT, normalize=False)
RAW = np.array([[3, 0, 4], [0, 6, 8]], dtype=np.float32)
LENGTHS = np.array([[5], [10]], dtype=np.float32)


def _query(**asked: object) -> EmbedQuery:
    return EmbedQuery(["a", "b"], **asked)  # type: ignore[arg-type]


def _shaped(recipe: Recipe, **asked: object) -> Float32:
    """Of a model whose vectors before any normalisation are RAW."""
    query = _query(**asked)
    rows = RAW / LENGTHS if recipe.normalize else RAW
    found = {name: list(LENGTHS[:, :, None]) for name in extras(query, recipe)}
    return shaped(Rows(rows, 0, 0, found), query, recipe)


@pytest.mark.parametrize("recipe", [UNIT, AS_IT_IS])
def test_a_request_has_vectors_normalised_or_not_whatever_the_model_does(recipe: Recipe) -> None:
    np.testing.assert_allclose(_shaped(recipe, normalize=True), RAW / LENGTHS)
    np.testing.assert_allclose(_shaped(recipe, normalize=False), RAW)
    np.testing.assert_allclose(_shaped(recipe), RAW / LENGTHS if recipe.normalize else RAW)


@pytest.mark.parametrize("recipe", [UNIT, AS_IT_IS])
def test_a_vector_that_is_cut_is_normalised_again(recipe: Recipe) -> None:
    np.testing.assert_allclose(_shaped(recipe, dimensions=2, normalize=True), [[1, 0], [0, 1]])
    np.testing.assert_allclose(_shaped(recipe, dimensions=2, normalize=False), RAW[:, :2])
    assert _shaped(recipe, dimensions=2).flags.c_contiguous
    np.testing.assert_allclose(_shaped(recipe, dimensions=3), _shaped(recipe))


def test_lengths_are_asked_for_only_where_they_are_needed() -> None:
    assert extras(_query(normalize=False), UNIT) == ("norm",)
    for query, recipe in (
        (_query(), UNIT),
        (_query(normalize=True), UNIT),
        (_query(normalize=False), AS_IT_IS),
    ):
        assert extras(query, recipe) == ()


def test_only_a_model_that_was_trained_for_it_has_its_vectors_cut() -> None:
    trained = replace(UNIT, matryoshka=(64, 128))
    for dimensions in (64, 100, 128, 256):
        check_dimensions(_query(dimensions=dimensions), trained, 256)
    with pytest.raises(UntrainedDimensionsError, match=r"to 32 dimensions \(but to: 64, 128\)"):
        check_dimensions(_query(dimensions=32), trained, 256)
    with pytest.raises(UntrainedDimensionsError, match=r"\(but to: none\)"):
        check_dimensions(_query(dimensions=255), UNIT, 256)
    check_dimensions(_query(dimensions=256), UNIT, 256)
    check_dimensions(_query(dimensions=32, untrained_dimensions=True), UNIT, 256)


def test_more_dimensions_than_there_are_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="dimensions is 257; the model's vectors have 256"):
        check_dimensions(_query(dimensions=257, untrained_dimensions=True), UNIT, 256)
