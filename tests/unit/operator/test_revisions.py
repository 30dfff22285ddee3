"""Which pod template a set gets: a table of what is kept, what runs, and what the Deployment says of it."""

from typing import Any

import pytest

from embedding_operator import naming
from embedding_operator.health.pods import Problem
from embedding_operator.sets import revisions
from embedding_operator.sets.revisions import Failure, Version, choose, digest, hold

OLD, NEW = ({"metadata": {"labels": {}}, "spec": {"containers": [{"image": image}]}} for image in ("a", "b"))
WAS_GOOD = Version(digest(OLD), 1, OLD)
IS_GOOD = Version(digest(NEW), 2, NEW)
GAVE_UP = Version(digest(NEW), 2, NEW, Failure("OOMKilled", "too small", ""))
PROBLEM = Problem("ImagePullBackOff", "1 of 3 pods: image b cannot be pulled", 70)


def deployment(
    template: dict[str, Any], *, overdue: bool = False, noted: bool = True, unseen: bool = False
) -> dict[str, Any]:
    annotations = {naming.TEMPLATE_ANNOTATION: digest(template)} if noted else {}
    condition = {
        "type": "Progressing",
        "status": str(not overdue),
        "reason": "ProgressDeadlineExceeded" if overdue else "ReplicaSetUpdated",
    }
    return {
        "metadata": {"name": "n", "generation": 2, "annotations": annotations},
        "spec": {"template": template},
        "status": {"observedGeneration": 1 if unseen else 2, "conditions": [condition]},
    }


@pytest.mark.parametrize(
    ("known", "there", "complete", "retry", "current", "recorded", "reason"),
    [
        pytest.param([], None, False, "", NEW, None, "", id="nothing is there yet"),
        pytest.param([], deployment(NEW), False, "", NEW, None, "", id="the first comes up"),
        pytest.param([], deployment(NEW), True, "", NEW, (NEW, True), "", id="the first is good"),
        pytest.param([IS_GOOD], deployment(NEW), True, "", NEW, None, "", id="known to be good"),
        pytest.param(
            [], deployment(NEW, overdue=True), False, "", NEW, None, "ImagePullBackOff",
            id="the first is late",
        ),
        pytest.param([WAS_GOOD], deployment(OLD), True, "", NEW, None, "", id="a change begins"),
        pytest.param(
            [], deployment(OLD), True, "", NEW, (OLD, True), "", id="a change begins before the old was kept"
        ),
        pytest.param(
            [], deployment(OLD, noted=False), True, "", NEW, (OLD, True), "", id="made by an older operator"
        ),
        pytest.param([WAS_GOOD], deployment(NEW), False, "", NEW, None, "", id="a change comes up"),
        pytest.param(
            [WAS_GOOD], deployment(NEW, overdue=True), False, "", OLD, (NEW, False), "ImagePullBackOff",
            id="a change is late",
        ),
        pytest.param(
            [WAS_GOOD], deployment(NEW, overdue=True, unseen=True), False, "", NEW, None, "",
            id="what the Deployment says is about another template",
        ),
        pytest.param(
            [WAS_GOOD, GAVE_UP], deployment(NEW), False, "", OLD, None, "OOMKilled", id="given up before"
        ),
        pytest.param(
            [WAS_GOOD, GAVE_UP], deployment(OLD), True, "", OLD, None, "OOMKilled", id="rolled back"
        ),
        pytest.param(
            [WAS_GOOD, GAVE_UP], None, False, "", OLD, None, "OOMKilled", id="the Deployment was deleted"
        ),
        pytest.param([WAS_GOOD, GAVE_UP], deployment(OLD), True, "2", NEW, None, "", id="asked to try again"),
        pytest.param(
            [WAS_GOOD, GAVE_UP], deployment(NEW, overdue=True), False, "2", OLD, (NEW, False),
            "ImagePullBackOff", id="late again",
        ),
        pytest.param(
            [WAS_GOOD, GAVE_UP], deployment(NEW), True, "", NEW, (NEW, True), "", id="good after all"
        ),
        pytest.param([GAVE_UP], None, False, "", NEW, None, "", id="nothing to go back to"),
        pytest.param(
            [WAS_GOOD, IS_GOOD], deployment(NEW, overdue=True), False, "", NEW, None, "ImagePullBackOff",
            id="what was good comes up no more",
        ),
        pytest.param(
            [IS_GOOD, Version(digest(OLD), 3, OLD)], deployment(NEW), True, "", NEW, (NEW, True), "",
            id="good again becomes the latest",
        ),
    ],
)  # fmt: skip
def test_what_the_pods_are_made_from(
    known: list[Version],
    there: dict[str, Any] | None,
    complete: bool,
    retry: str,
    current: dict[str, Any],
    recorded: tuple[dict[str, Any], bool] | None,
    reason: str,
) -> None:
    found = choose(NEW, known, there, complete=complete, retry=retry, why=PROBLEM)
    assert (found.template, found.current, found.wanted) == (current, digest(current), digest(NEW))
    assert (found.failure.reason if found.failure else "") == reason
    assert found.rolled_back is (current is OLD)
    if recorded is None:
        assert found.record is None
    else:
        template, good = recorded
        assert found.record is not None
        assert (found.record.template, found.record.failure is None) == (template, good)
        assert found.record.number == max((version.number for version in known), default=0) + 1
        assert good or found.record.failure == Failure(PROBLEM.reason, PROBLEM.message, retry)


def test_a_set_that_is_no_longer_asked_for_keeps_what_it_had() -> None:
    assert hold(NEW, [WAS_GOOD, GAVE_UP]).template == OLD
    assert hold(NEW, []).template == NEW


def test_a_digest_follows_the_content_and_not_the_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
    assert len(digest(OLD)) == 8


def test_what_somebody_wrote_into_the_note_of_a_failure_is_still_a_failure() -> None:
    assert revisions._failure({"metadata": {"annotations": {naming.FAILURE_ANNOTATION: "?"}}})
