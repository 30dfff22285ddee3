"""What is told once, and what of it the status keeps: news follow from two statuses."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embedding_operator import events, naming
from embedding_operator.events import Standing
from tests.unit.operator import samples
from tests.unit.operator.world import World

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SERVING = Standing("True", "Ready", "a" * 64)


def status(ready: str, reason: str, fingerprint: str = "", **rest: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready, "reason": reason, "message": f"why {reason}"}]
    found = {"conditions": conditions, "model": {"task": "embed"}} | rest
    return found | {"fingerprint": fingerprint} if fingerprint else found


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (Standing("", "", ""), status("False", "Pending"), [("Pending", False, False)]),
        (Standing("False", "Pending", ""), status("False", "Pending"), []),
        (Standing("False", "Pending", ""), status("False", "DiskFull"), [("DiskFull", True, True)]),
        (
            Standing("False", "Starting", ""),
            status("True", "Ready", "a" * 64),
            [("Ready", False, True)],
        ),
        (SERVING, status("True", "Ready", "a" * 64), []),
        (SERVING, status("True", "CPUFallback", "a" * 64), [("CPUFallback", True, True)]),
        (SERVING, status("True", "ScaledToZero", "a" * 64), [("ScaledToZero", False, True)]),
        (SERVING, status("False", "RollingOut", "a" * 64), [("RollingOut", False, False)]),
        (SERVING, status("False", "Suspended", "a" * 64), [("Suspended", False, False)]),
        (SERVING, status("True", "Ready", "b" * 64), [("Switched", False, True)]),
        (
            Standing("False", "Switching", "a" * 64),
            status("True", "Ready", "b" * 64),
            [("Switched", False, True), ("Ready", False, True)],
        ),
        (SERVING, status("False", "ModelNotFound"), [("ModelNotFound", True, True)]),
    ],
)
def test_what_has_happened_between_two_statuses(
    before: Standing, after: dict[str, Any], told: list[tuple[str, bool, bool]]
) -> None:
    assert [(entry.reason, entry.warning, entry.matters) for entry in events.news(before, after)] == told


@pytest.mark.parametrize(("task", "what"), [("embed", "vectors"), ("rerank", "scores")])
def test_a_service_that_moves_says_what_cannot_be_compared(task: str, what: str) -> None:
    (entry,) = events.news(SERVING, status("True", "Ready", "b" * 64, model={"task": task}))
    assert "bbbbbbbb now, no longer from aaaaaaaa" in entry.message
    assert what in entry.message


def test_what_comes_and_goes_is_counted_and_pushes_nothing_out() -> None:
    present, now = status("False", "DiskFull"), NOW
    present["events"] = events.kept({}, present, now)
    for _ in range(20):
        for after in (status("True", "Ready"), status("False", "OOMKilled")):
            now += timedelta(minutes=1)
            present = after | {"events": events.kept(present, after, now)}
    found = [(entry["reason"], entry["count"], entry["type"]) for entry in present["events"]]
    assert found == [("DiskFull", 1, "Warning"), ("Ready", 20, "Normal"), ("OOMKilled", 20, "Warning")]
    assert present["events"][-1]["time"] == "2026-01-01T00:40:00Z"
    assert present["events"][-1]["message"] == "why OOMKilled"


def test_the_oldest_goes_when_there_are_too_many() -> None:
    present: dict[str, Any] = {}
    for number in range(8):
        after = status("False", f"Reason{number}")
        present = after | {"events": events.kept(present, after, NOW)}
    assert [entry["reason"] for entry in present["events"]] == [f"Reason{number}" for number in range(3, 8)]


def test_a_status_that_stays_keeps_its_events_as_they_are() -> None:
    present = status("False", "DiskFull")
    present["events"] = events.kept({}, present, NOW)
    assert events.kept(present, status("False", "DiskFull"), NOW + timedelta(hours=1)) == present["events"]


def test_the_status_tells_what_mattered_on_the_way_and_then_is_left_alone() -> None:
    world = World()
    world.serve()
    assert [entry["reason"] for entry in world.em["status"]["events"]] == ["Ready"]
    world.cluster.requests.clear()
    world.clock.advance(3600)
    world.reconcile()
    assert world.cluster.requests == []


def test_a_change_of_the_embedding_space_is_an_event_and_stays_in_the_status() -> None:
    world = World()
    world.serve()
    world.change(model={"id": "acme/other"})
    world.prefetched(model="acme/other", fingerprint=samples.OTHER)
    world.settle()
    world.roll("minilm-" + samples.OTHER[:8])
    world.settle()
    assert ("Switched", False) in [event[0::2] for event in world.cluster.events]
    assert "Switched" in [entry["reason"] for entry in world.em["status"]["events"]]


def test_nothing_is_told_of_a_paused_resource() -> None:
    world = World()
    world.serve()
    before = world.em["status"]["events"]
    world.em["metadata"]["annotations"] = {naming.PAUSED_ANNOTATION: "true"}
    world.cluster.remove("Service", "minilm")
    world.reconcile()
    assert world.em["status"]["events"] == before
