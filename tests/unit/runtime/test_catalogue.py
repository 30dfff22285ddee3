"""Which model answers for a name, and what is said when none does."""

import numpy as np
import pytest

from embedding_runtime.errors import (
    EngineUnavailableError,
    LoadFailedError,
    NotReadyError,
    UnknownModelError,
    WrongTaskError,
)
from embedding_runtime.service.catalogue import Catalogue, ready_card
from embedding_runtime.service.inference import ranked
from embedding_runtime.service.state import EngineState, ModelState
from tests.unit.runtime.fakes import COMMIT, EMBEDDER, RERANKER, card

CATALOGUE = Catalogue([EMBEDDER, RERANKER])
READY = EngineState(
    tuple(
        ModelState(model.ref.id, "main", model.task, "ready", "", "", card(model))
        for model in (EMBEDDER, RERANKER)
    )
)


@pytest.mark.parametrize("name", [None, "org/reranker", "org/reranker@main", f"org/reranker@{COMMIT}"])
def test_a_model_answers_to_its_id_its_revision_and_as_the_default(name: str | None) -> None:
    assert CATALOGUE.slot(name, "rerank", READY) == 1


@pytest.mark.parametrize("name", ["other", "org/embedder@v2", "ORG/embedder", ""])
def test_an_unknown_name_is_told_what_is_served(name: str) -> None:
    with pytest.raises(UnknownModelError, match="org/embedder, org/reranker"):
        CATALOGUE.slot(name, "embed", READY)


def test_no_default_says_so() -> None:
    with pytest.raises(UnknownModelError, match="no reranking model is configured; served: org/embedder"):
        Catalogue([EMBEDDER]).slot(None, "rerank", None)


def test_the_wrong_task_names_the_right_endpoint() -> None:
    with pytest.raises(WrongTaskError, match="org/reranker is a reranking model; ask it at /rerank"):
        CATALOGUE.slot("org/reranker", "embed", READY)


@pytest.mark.parametrize(
    ("name", "expected"), [(None, "org/embedder"), ("org/embedder@x", "org/embedder"), ("evil", "unknown")]
)
def test_clients_choose_no_labels(name: str | None, expected: str) -> None:
    assert CATALOGUE.label(name, "embed") == expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (None, EngineUnavailableError),
        (EngineState((ModelState("m", "main", "embed"),)), NotReadyError),
        (
            EngineState((ModelState("m", "main", "embed", "load_failed", "NotCached", "gone"),)),
            LoadFailedError,
        ),
    ],
)
def test_a_model_that_cannot_answer_says_why(state: EngineState | None, expected: type[Exception]) -> None:
    with pytest.raises(expected):
        ready_card(0, state)


def test_scores_are_sigmoids_best_first_and_ties_keep_their_order() -> None:
    found = ranked(np.array([0, -800, 2, 0, 800], dtype=np.float32))
    assert [each.index for each in found] == [4, 2, 0, 3, 1]
    np.testing.assert_allclose(
        [each.score for each in found], [1, 1 / (1 + np.exp(-2)), 0.5, 0.5, 0], atol=1e-12
    )
