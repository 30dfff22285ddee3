"""Which commit a followed revision means, and when it is looked up again."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from embedding_operator import api, naming
from embedding_operator.api import EmbeddingModel
from embedding_operator.cache import caching, following
from embedding_operator.cache.prefetch import Failed, Resolved
from embedding_operator.facts import Failure
from embedding_operator.observed import Observed, observed
from embedding_operator.resources import cache
from embedding_operator.resources.deployment import deployment
from tests.unit.operator import samples

FOLLOW = {"revisionPolicy": "Follow", "revisionCheckInterval": "1h"}
EM = samples.model(model=FOLLOW)
FIRST, SECOND = "1" * 40, "2" * 40
DENIED = samples.error("AccessDenied", "401: refused", permanent=True)
UNREACHABLE = samples.error("HubUnreachable", "no route", permanent=False)
MINUTE = timedelta(minutes=1)


def at(commit: str | None) -> EmbeddingModel:
    return replace(EM, source=replace(EM.source, commit=commit))


def check(slot: int, result: dict[str, Any] | None, minute: int = 0, commit: str = "") -> dict[str, Any]:
    """A Job that asked, in this minute; without a result it runs."""
    name = naming.check_jobs(EM)[slot]
    body = samples.ended_job(EM, name, result or samples.resolved())
    body["metadata"]["creationTimestamp"] = f"2026-01-01T12:{minute:02}:00Z"
    if result is None:
        del body["metadata"]["annotations"][naming.RESULT_ANNOTATION]
        body["status"] = {}
    if commit:
        body["metadata"]["annotations"][naming.COMMIT_ANNOTATION] = commit
    return body


def serving(em: EmbeddingModel, commit: str, fingerprint: str = samples.FINGERPRINT) -> dict[str, Any]:
    facts = samples.facts(em, commit=commit, fingerprint=fingerprint)
    return deployment(em, facts, samples.RUNTIME)


def seen(*children: dict[str, Any], em: EmbeddingModel = EM) -> Observed:
    kinds: dict[str, list[Any]] = {}
    for body in children:
        kinds.setdefault(body["kind"], []).append(body)
    return observed(em, kinds)


def fetching(commit: str | None) -> dict[str, Any]:
    return cache.job(at(commit), samples.RUNTIME)


FOUND = check(0, samples.resolved(commit=FIRST))
ASKING = check(1, None, 30, commit=FIRST)
REFUSED = check(1, DENIED, 30, commit=FIRST)


@pytest.mark.parametrize(
    ("children", "commit"),
    [
        pytest.param([], None, id="nobody has asked"),
        pytest.param([check(0, None)], None, id="being asked"),
        pytest.param([check(0, DENIED)], None, id="refused"),
        pytest.param([FOUND], FIRST, id="answered"),
        pytest.param([FOUND, ASKING], FIRST, id="answered before, being asked again"),
        pytest.param([ASKING], FIRST, id="being asked again, the answer removed"),
        pytest.param([REFUSED], FIRST, id="refused after an answer"),
        pytest.param([FOUND, check(1, samples.resolved(commit=SECOND), 30)], SECOND, id="moved"),
        pytest.param([serving(at(FIRST), FIRST)], FIRST, id="no Job, something serves"),
        pytest.param([serving(at(FIRST), FIRST), fetching(SECOND)], SECOND, id="no Job, another is fetched"),
        pytest.param([fetching(None)], None, id="no Job, the revision itself was fetched"),
        pytest.param([serving(EM, FIRST)], FIRST, id="served before it was followed"),
        pytest.param([serving(at(FIRST), FIRST), FOUND], FIRST, id="as it serves"),
        pytest.param(
            [serving(samples.model(model={"id": "another/one"}), SECOND)], None, id="another model serves"
        ),
    ],
)
def test_the_last_answer_says_what_the_revision_means(
    children: list[dict[str, Any]], commit: str | None
) -> None:
    assert following.known(seen(*children)) == commit


def test_a_known_commit_has_a_claim_and_a_job_of_its_own() -> None:
    first, second = (following.followed(seen(check(0, samples.resolved(commit=c)))) for c in (FIRST, SECOND))
    assert len({naming.claim(em) for em in (EM, first, second)}) == 3
    assert len({naming.job(em) for em in (EM, first, second)}) == 3
    env = cache.job(first, samples.RUNTIME)["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "MODEL_REVISION", "value": FIRST} in env


def test_what_was_fetched_before_the_revision_was_followed_is_used_while_it_is_that_commit() -> None:
    before = serving(EM, FIRST)
    assert following.followed(seen(before, FOUND)) == EM
    assert following.followed(seen(before, check(0, samples.resolved(commit=SECOND)))).source.at == SECOND


def test_a_pinned_revision_is_asked_for_nowhere() -> None:
    em = samples.model()
    found = seen(FOUND, em=em)
    assert following.followed(found) is em
    assert (following.known(found), following.kept(found)) == (None, set())


def test_the_next_job_leaves_the_last_answer_alone() -> None:
    first, second = naming.check_jobs(EM)
    assert following.next_name(seen()) == first
    assert (following.next_name(seen(FOUND)), following.kept(seen(FOUND))) == (second, {first})
    assert (following.next_name(seen(FOUND, ASKING)), following.kept(seen(FOUND, ASKING))) == (
        first,
        {second},
    )


@pytest.mark.parametrize(
    ("children", "reason"),
    [
        ([], None),
        ([FOUND], None),
        ([FOUND, ASKING], None),
        ([FOUND, REFUSED], "AccessDenied"),
        ([FOUND, check(1, UNREACHABLE, 30)], "HubUnreachable"),
    ],
)
def test_a_lookup_that_failed_is_trouble(children: list[dict[str, Any]], reason: str | None) -> None:
    found = following.trouble(seen(*children))
    assert (found.reason if found else None) == reason


@pytest.mark.parametrize("interval", [10, 3600, 86400])
def test_the_interval_differs_a_little_from_resource_to_resource(interval: int) -> None:
    source = replace(EM.source, check_interval=interval)
    ended = samples.AT + timedelta(seconds=10)
    waits = {
        (following.due(replace(EM, uid=f"uid-{n}", source=source), FOUND) - ended).total_seconds() / interval
        for n in range(200)
    }
    assert 0.9 <= min(waits) < 0.92
    assert 1.08 < max(waits) <= 1.1
    assert following.due(EM, FOUND) == following.due(EM, FOUND)


def test_when_it_is_looked_up_again() -> None:
    usual = following.due(EM, REFUSED)
    refused = Failed(Failure("AccessDenied", "401", permanent=True), samples.AT, 1, "check")
    limited = Failed(Failure("RateLimited", "429", permanent=False, retry_after=900), samples.AT, 1, "check")
    away = Failed(Failure("HubUnreachable", "no route", permanent=False), samples.AT, 2, "check")
    assert caching.check_at(EM, Resolved(samples.resolution()), FOUND) == following.due(EM, FOUND)
    assert caching.check_at(EM, refused, REFUSED) == usual
    assert caching.check_at(EM, limited, REFUSED) == samples.AT + 15 * MINUTE
    assert caching.check_at(EM, away, REFUSED) == samples.AT + 2 * MINUTE


@pytest.mark.parametrize(
    ("text", "seconds"), [("1h", 3600), ("90m", 5400), ("1h30m", 5400), ("10s", 10), ("2h0m5s", 7205)]
)
def test_an_interval_is_a_duration(text: str, seconds: int) -> None:
    assert samples.model(model={"revisionCheckInterval": text}).source.check_interval == seconds


def test_without_a_policy_a_revision_is_pinned() -> None:
    assert not api.parse(samples.model_body()).source.follows
    assert samples.model().source.check_interval == 3600
