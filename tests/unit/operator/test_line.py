"""Who may fetch now: the bound on Jobs, the order of those who wait, and the pause that a hub asks for."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embedding_operator import naming
from embedding_operator.api import Key
from embedding_operator.fetching.line import HELD_BACK, WAITING, Line
from embedding_operator.reconcile import Outcome, Reconciler
from embedding_operator.resources import cache
from tests.unit.operator import samples
from tests.unit.operator.world import World

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HUB = samples.RUNTIME.hf_endpoint


def key(name: str) -> Key:
    return Key("default", name)


def job(name: str, age: int = 0, *ended: str, **status: Any) -> dict[str, Any]:
    body = cache.job(samples.model(name), samples.RUNTIME)
    created = NOW - timedelta(seconds=age)
    body["metadata"] |= {"uid": f"job-of-{name}", "creationTimestamp": created.isoformat()}
    stamp = NOW.isoformat()
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": stamp} for kind in ended]
    return body | {"status": {"conditions": conditions, **status}}


def limited(name: str, seconds: float) -> dict[str, Any]:
    body = job(name, 60, "Failed")
    told = samples.error("RateLimited", "429", permanent=False, retry_after=seconds)
    body["metadata"]["annotations"][naming.RESULT_ANNOTATION] = json.dumps(told)
    return body


def asks(line: Line, name: str, now: datetime = NOW, hub: str = HUB) -> str:
    wait = line.ask(key(name), hub, now)
    return wait.reason if wait else ""


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ([], ""),
        ([job("b")], WAITING),
        ([job("b", 3600, ready=1)], WAITING),
        pytest.param([job("b", 121)], "", id="a job that could not start in two minutes"),
        ([job("b", 60, "Complete")], ""),
        ([job("b", 60, "Failed")], ""),
        pytest.param([job("a")], "", id="its own job, to be replaced"),
        ([limited("b", 30)], HELD_BACK),
    ],
)
def test_a_place_is_free_where_no_other_job_fetches(others: list[dict[str, Any]], reason: str) -> None:
    assert asks(Line(lambda: others, 1), "a") == reason


def test_a_job_that_is_on_its_way_out_holds_no_place() -> None:
    leaving = job("b")
    leaving["metadata"]["deletionTimestamp"] = NOW.isoformat()
    assert asks(Line(lambda: [leaving], 1), "a") == ""


def test_a_place_is_taken_before_the_watches_show_it() -> None:
    jobs: list[dict[str, Any]] = []
    line = Line(lambda: jobs, 1)
    assert asks(line, "a") == ""
    assert asks(line, "b") == WAITING
    line.made(key("a"), job("a"), NOW)
    assert asks(line, "b") == WAITING
    jobs.append(job("a", 0, "Complete"))
    assert asks(line, "b") == ""


def test_a_place_that_came_to_nothing_is_free_again() -> None:
    line = Line(lambda: [], 1)
    assert asks(line, "a") == ""
    line.given_up(key("a"))
    assert asks(line, "b") == ""


def test_who_came_first_goes_first_and_everybody_knows_the_place() -> None:
    jobs = [job("z")]
    line = Line(lambda: jobs, 1)
    for place, name in enumerate(("a", "b", "c"), 1):
        wait = line.ask(key(name), HUB, NOW)
        assert wait is not None
        assert f"place {place} in the line" in wait.message
        assert "MAX_CONCURRENT_PREFETCHES" in wait.message
        assert wait.seconds == 2 * place
    jobs[0] = job("z", 0, "Complete")
    assert [asks(line, name) for name in ("c", "b", "a")] == [WAITING, WAITING, ""]


def test_who_left_or_never_asked_again_stops_nobody() -> None:
    jobs = [job("z")]
    line = Line(lambda: jobs, 1)
    assert [asks(line, name) for name in ("a", "b", "c")] == [WAITING] * 3
    jobs.clear()
    line.leave(key("a"))
    assert asks(line, "c") == WAITING
    assert asks(line, "c", NOW + timedelta(minutes=4)) == ""


def test_a_pause_holds_back_one_hub_and_ends() -> None:
    line = Line(lambda: [limited("b", 90), limited("c", 30)], 4)
    wait = line.ask(key("a"), HUB, NOW)
    assert wait is not None
    assert (wait.reason, wait.seconds) == (HELD_BACK, 90)
    assert f"{HUB} limits the rate of requests, as it told default/b" in wait.message
    assert "before 12:01:30 UTC" in wait.message
    assert asks(line, "a", hub="https://another.example") == ""
    assert asks(line, "a", NOW + timedelta(seconds=90)) == ""


# --- and the reconcile


def named(world: World, *names: str) -> None:
    for name in names:
        body = samples.model_body(name)
        body["metadata"]["uid"] = f"uid-of-{name}"
        world.cluster.put(body)


def reconcile(world: World, name: str) -> Outcome:
    return asyncio.run(world.reconciler(key(name)))


def reason(world: World, name: str) -> str:
    conditions = world.cluster.find("EmbeddingModel", name)["status"]["conditions"]
    found: str = next(item["reason"] for item in conditions if item["type"] == "Cached")
    return found


def test_at_most_so_many_jobs_run_and_the_next_follows_when_one_ends() -> None:
    world = World()
    world.reconciler = Reconciler(
        world.cluster, world.cache, world.servers, samples.RUNTIME, world.clock, prefetches=2
    )
    named(world, "second", "third")
    outcomes = [reconcile(world, name) for name in ("minilm", "second", "third")]
    assert len(world.cluster.all("Job")) == 2
    assert reason(world, "third") == WAITING
    assert outcomes[2].look_again == 2
    assert not any(warning for told, _, warning in world.cluster.events if told == WAITING)
    world.end_job(samples.ok(), well=True)
    reconcile(world, "third")
    assert len(world.cluster.all("Job")) == 3
    assert reason(world, "third") == "Pending"


def test_a_resource_that_waits_writes_nothing_over_and_over() -> None:
    world = World()
    world.reconciler = Reconciler(
        world.cluster, world.cache, world.servers, samples.RUNTIME, world.clock, prefetches=1
    )
    named(world, "second")
    reconcile(world, "minilm")
    reconcile(world, "second")
    world.cluster.requests.clear()
    reconcile(world, "second")
    assert world.cluster.requests == []


def test_what_a_hub_asks_of_a_job_that_goes_on_holds_back_the_others_too() -> None:
    world = World()
    named(world, "second")
    world.reconcile()
    state = samples.container_status(naming.PREFETCH_CONTAINER, {"running": {}}, started=True)
    pod = world.job_pod(phase="Running", containerStatuses=state)["metadata"]["name"]
    world.cluster.logs[pod] = (
        '{"event":"pause","until":"2026-01-01T12:00:40+00:00"}\n'
        '{"event":"progress","phase":"waiting","message":"429"}\n'
    )
    world.reconcile()
    outcome = reconcile(world, "second")
    assert (reason(world, "second"), outcome.look_again) == (HELD_BACK, 40)


def test_what_a_hub_asks_of_one_holds_back_the_others_also_after_a_restart() -> None:
    world = World()
    named(world, "second")
    world.reconcile()
    world.end_job(samples.error("RateLimited", "429", permanent=False, retry_after=900), well=False)
    world.reconcile()
    world.restart_operator()
    outcome = reconcile(world, "second")
    assert (reason(world, "second"), outcome.look_again) == (HELD_BACK, 900)
    assert len(world.cluster.all("Job")) == 1
    world.clock.advance(900)
    reconcile(world, "second")
    assert len(world.cluster.all("Job")) == 2
