"""How large a claim is, and why."""

from typing import Any

import pytest

from embedding_operator import naming
from embedding_operator.cache import sizing
from embedding_operator.cache.sizing import Size
from embedding_operator.observed import Observed, observed
from tests.unit.operator import samples

GB = 10**9
EM = samples.model(cache={"size": None})


def claim(size: str, **annotations: str) -> dict[str, Any]:
    return {
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": naming.claim(EM),
            "annotations": annotations,
            "ownerReferences": [{"uid": EM.uid, "controller": True}],
        },
        "spec": {"resources": {"requests": {"storage": size}}},
    }


def answered(**result: Any) -> dict[str, Any]:
    return samples.ended_job(EM, naming.sizing_job(EM), samples.resolved(**result))


def seen(size: str | None, children: dict[str, list[Any]] | None = None, **spec: Any) -> Observed:
    return observed(samples.model(cache={"size": size}, **spec), children or {})


@pytest.mark.parametrize(
    ("count", "quantity", "words"),
    [
        (0, "1Gi", "the files' 0.0 MB"),
        (90_900_000, "1Gi", "the files' 90.9 MB times 2.5, for the graph that is made of them, in whole Gi"),
        (429_496_729, "1Gi", "429.5 MB"),  # two fifths of a GiB
        (429_496_730, "2Gi", "429.5 MB"),
        (15 * GB, "35Gi", "15000.0 MB"),
        (None, "5Gi", "the hub does not say"),
    ],
)
def test_without_a_size_it_follows_from_the_files(count: int | None, quantity: str, words: str) -> None:
    found = sizing.size(seen(None, {"Job": [answered(bytes=count)]}))
    assert found is not None
    assert (found.quantity, found.measured) == (quantity, True)
    assert words in found.reason


@pytest.mark.parametrize(
    ("given", "there", "expected"),
    [
        ("3Gi", None, Size("3Gi", "spec.cache.size")),
        ("3Gi", claim("2Gi"), Size("3Gi", "spec.cache.size")),
        ("2Gi", claim("2048Mi"), Size("2048Mi", "spec.cache.size")),
        ("2Gi", claim("3Gi"), Size("3Gi", "the claim's own: it is not made smaller")),
        (None, claim("3Gi"), Size("3Gi", "the claim's own; spec.cache.size says none")),
        (
            None,
            claim("3Gi", **{naming.SIZE_REASON_ANNOTATION: "the files"}),
            Size("3Gi", "the files", measured=True),
        ),
        (None, None, None),
    ],
)
def test_the_spec_or_the_claim_itself_says_the_size(
    given: str | None, there: dict[str, Any] | None, expected: Size | None
) -> None:
    assert sizing.size(seen(given, {"PersistentVolumeClaim": [there] if there else []})) == expected


def test_somebody_elses_claim_has_no_size_of_ours() -> None:
    folder = {"source": {"pvc": {"claimName": "models"}}}
    assert sizing.size(seen(None, model=folder)) is None
    assert sizing.size(observed(samples.model(cache={"size": None, "claimName": "mine"}), {})) is None


def test_the_answer_is_kept_until_the_claim_is_there() -> None:
    assert sizing.jobs(seen(None)) == {naming.sizing_job(EM)}
    assert sizing.jobs(seen(None, {"PersistentVolumeClaim": [claim("1Gi")]})) == set()
