"""What is said about the cache, and when a failed prefetch is tried again."""

from datetime import UTC, datetime

import pytest

from embedding_operator import caching, naming
from embedding_operator.facts import Failure
from embedding_operator.prefetch import (
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
            Failed(GONE, AT, 2), None,
            False, "HubUnreachable", "Waiting", "Attempt 2 gave up; the next one starts at 12:02:00 UTC",
        ),
        (Failed(DENIED, AT, 1), None, False, "AccessDenied", "Failed", f"delete Job {naming.job(EM)}"),
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
        (Failed(GONE, AT, 1), "CheckFailed"),
        (Failed(DENIED, AT, 1), "CheckFailed"),
    ],
)
def test_a_source_that_is_being_served_stays_cached_whatever_becomes_of_its_job(
    state: State, reason: str
) -> None:
    found = caching.cached(EM, state, None, FACTS)
    assert (found.holds, found.reason) == (True, reason)


@pytest.mark.parametrize("failure", [DENIED, Failure("DiskFull", "no space", permanent=True)])
def test_only_a_permanent_failure_is_stuck(failure: Failure) -> None:
    assert caching.cached(EM, Failed(failure, AT, 1), None, None).stuck
    assert not caching.cached(EM, Failed(GONE, AT, 1), None, None).stuck


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
    failed = Failed(Failure("RateLimited", "429", permanent=False, retry_after=asked), AT, attempt)
    assert (caching.retry_at(failed) - AT).total_seconds() == seconds


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (90_900_000, "90.9 MB"), (10**16, "10000.0 TB")],
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert caching.size(count) == text
