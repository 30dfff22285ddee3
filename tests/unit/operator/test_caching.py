"""What is said about the cache, and when a failed prefetch is tried again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embedding_operator.cache import caching
from embedding_operator.cache.prefetch import (
    Done,
    Failed,
    Lost,
    Missing,
    Pending,
    Progress,
    Retrying,
    Running,
    State,
)
from embedding_operator.facts import Failure
from tests.unit.operator import samples

EM = samples.model()
FACTS = samples.facts(EM)
AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
GONE = Failure("HubUnreachable", "no route to http://hub.example", permanent=False)
DENIED = Failure("AccessDenied", "401 for a/b", permanent=True)


@pytest.mark.parametrize(
    ("state", "progress", "holds", "reason", "phase", "words"),
    [
        (Missing(), None, False, "Pending", "Pending", "being created"),
        (Lost(), None, False, "Pending", "Pending", "being created"),
        (Pending("Unschedulable", "no node"), None, False, "Unschedulable", "Pending", "no node"),
        (Running("p"), None, False, "Resolving", "Resolving", "has started"),
        (Running("p"), Progress("resolving", 0, None, ""), False, "Resolving", "Resolving", "@main: resol"),
        (
            Running("p"), Progress("downloading", 45_000_000, 90_000_000, ""),
            False, "Downloading", "Downloading", "45.0 MB of 90.0 MB",
        ),
        (Running("p"), Progress("waiting", 0, None, "503"), False, "WaitingForHub", "Waiting", "503"),
        (Running("p"), Progress("inspecting", 9, 9, ""), False, "Inspecting", "Inspecting", "inspecting"),
        (Retrying(GONE), None, False, "HubUnreachable", "Waiting", "tried again"),
        (
            Failed(GONE, AT, 2, "the-job"), None,
            False, "HubUnreachable", "Waiting", "Attempt 2 gave up; the next one starts at 12:02:00 UTC",
        ),
        (Failed(DENIED, AT, 1, "the-job"), None, False, "AccessDenied", "Failed", "delete Job the-job"),
        (Done(FACTS), None, True, "Cached", "Cached", "is commit cccccccccccc, 90.9 MB, in claim minilm-"),
    ],
)  # fmt: skip
def test_every_state_has_its_reason_and_words(
    state: State, progress: Progress | None, holds: bool, reason: str, phase: str, words: str
) -> None:
    found = caching.cached(EM, state, progress, None)
    assert (found.holds, found.reason, found.phase) == (holds, reason, phase)
    assert words in found.message


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (Missing(), "Checking"),
        (Running("p"), "Checking"),
        (Pending("Unschedulable", "no node"), "Checking"),
        (Failed(GONE, AT, 1, "the-job"), "CheckFailed"),
        (Failed(DENIED, AT, 1, "the-job"), "CheckFailed"),
    ],
)
def test_a_source_that_is_being_served_stays_cached_whatever_becomes_of_its_job(
    state: State, reason: str
) -> None:
    found = caching.cached(EM, state, None, FACTS)
    assert (found.holds, found.reason) == (True, reason)


TOKEN = {"source": {"hub": {"tokenSecretRef": {"name": "hub-token", "key": "token"}}}}
PROXIED = {
    "source": {"hub": {"endpoint": "https://hub.internal", "proxy": {"url": "http://proxy.internal:3128"}}}
}


@pytest.mark.parametrize(
    ("model", "reason", "told", "words"),
    [
        ({}, "ModelNotFound", "404: nothing; set HF_TOKEN", "Correct spec.model.id; a private model needs"),
        (TOKEN, "ModelNotFound", "404: nothing; set HF_TOKEN", "may see the model into Secret hub-token"),
        ({}, "RevisionNotFound", "404: no revision 'v9'", "spec.model.revision"),
        ({}, "AccessDenied", "401: refused; set HF_TOKEN", "name a Secret with a token that may read it in"),
        (TOKEN, "AccessDenied", "401: refused; set HF_TOKEN", "Secret hub-token, key token (spec.model"),
        ({}, "RateLimited", "429: slower; set HF_TOKEN", "a token has a higher limit"),
        (TOKEN, "RateLimited", "429: slower; set HF_TOKEN", "done; a mirror has a limit of its own"),
        ({}, "HubUnreachable", "no way; check HF_ENDPOINT", "operator's HF_ENDPOINT (spec.model.source.hub"),
        (PROXIED, "HubUnreachable", "no way; check HTTPS_PROXY", "hub.proxy (http://proxy.internal:3128)"),
        ({}, "DiskFull", "needs 9 MiB more; use `prune`", "Write a larger spec.cache.size than 5Gi"),
        ({}, "CacheUnwritable", "cannot write the cache; set HF_HOME", "honours fsGroup"),
        ({}, "UnsupportedModel", "no ONNX file", "spec.model.file"),
        ({}, "TaskMismatch", "a reranker", "spec.model.task"),
        ({}, "InternalError", "a bug; tell us", "a bug; tell us."),
    ],
)  # fmt: skip
def test_every_class_of_failure_is_told_in_terms_of_the_spec(
    model: dict[str, Any], reason: str, told: str, words: str
) -> None:
    failed = Failed(Failure(reason, told, permanent=True), AT, 1, "the-job")
    found = caching.cached(samples.model(model=model), failed, None, None)
    assert found.reason == reason
    assert told.split(";")[0] in found.message
    assert words in found.message
    for variable in ("set HF_TOKEN", "check HF_ENDPOINT", "HTTPS_PROXY", "prune"):
        assert variable not in found.message


def test_a_hub_that_does_not_answer_is_told_with_the_way_to_it() -> None:
    waiting = Progress("waiting", 0, None, "trying again in 4 s: cannot reach http://h; check HF_ENDPOINT")
    found = caching.cached(EM, Running("p"), waiting, None)
    assert "cannot reach http://h. Check the operator's HF_ENDPOINT" in found.message
    assert "spec.model.source.hub.caBundleRef" in found.message


BUNDLE = {"source": {"hub": {"caBundleRef": {"name": "company-ca", "key": "ca.crt"}}}}
NO_SECRET = Pending("CreateContainerConfigError", 'prefetch pod p: secret "hub-token" not found')
NO_KEY = Pending(
    "CreateContainerConfigError", "prefetch pod p: couldn't find key token in Secret d/hub-token"
)
NO_MAP = Pending(
    "FailedMount", 'MountVolume.SetUp failed for volume "hub-certificates" : configmap "company-ca" not found'
)
NO_DISK = Pending("FailedMount", 'MountVolume.SetUp failed for volume "pvc-1" : timed out')


@pytest.mark.parametrize(
    ("model", "pending", "reason", "words"),
    [
        (TOKEN, NO_SECRET, "MissingSecret", "Secret hub-token with key token, which spec.model.source"),
        (TOKEN, NO_KEY, "MissingSecret", "couldn't find key token"),
        ({}, NO_SECRET, "CreateContainerConfigError", "not found"),
        (BUNDLE, NO_MAP, "MissingConfigMap", "ConfigMap company-ca with key ca.crt, which spec.model.source"),
        (BUNDLE, NO_DISK, "FailedMount", "timed out"),
        ({}, NO_DISK, "FailedMount", "timed out"),
    ],
)  # fmt: skip
def test_what_the_spec_names_and_nobody_made_is_told_by_its_name(
    model: dict[str, Any], pending: Pending, reason: str, words: str
) -> None:
    found = caching.cached(samples.model(model=model), pending, None, None)
    assert (found.holds, found.reason, found.stuck) == (False, reason, False)
    assert words in found.message


@pytest.mark.parametrize("failure", [DENIED, Failure("DiskFull", "no space", permanent=True)])
def test_only_a_permanent_failure_is_stuck(failure: Failure) -> None:
    assert caching.cached(EM, Failed(failure, AT, 1, "the-job"), None, None).stuck
    assert not caching.cached(EM, Failed(GONE, AT, 1, "the-job"), None, None).stuck


@pytest.mark.parametrize(
    ("attempt", "asked", "seconds"),
    [
        (1, None, 60),
        (2, None, 120),
        (4, None, 480),
        (5, None, 600),
        (500, None, 600),
        (1, 30, 60),
        (1, 3000, 3000),
    ],
)
def test_pauses_grow_to_ten_minutes_or_to_what_the_hub_asks(
    attempt: int, asked: float | None, seconds: int
) -> None:
    failed = Failed(Failure("RateLimited", "429", permanent=False, retry_after=asked), AT, attempt, "the-job")
    assert caching.retry_at(failed) == AT + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (90_900_000, "90.9 MB"), (10**16, "10000.0 TB")],
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert caching.size(count) == text
