"""A pod that runs and is not ready: its server's own words become the condition, and one Event."""

from typing import Any

from embedding_operator.readiness import Report, Silence
from tests.unit.operator import samples
from tests.unit.operator.world import World

FAILED = Report("load_failed", "ProviderUnavailable", "minilm runs on the CPU: no driver")


def starting(**spec: Any) -> World:
    """A world whose one pod runs, and is not ready."""
    world = World(replicas=1, **spec)
    world.prefetched()
    world.settle()
    world.roll(ready=0)
    state = samples.container_status("server", {"running": {}}, started=True)
    world.server_pod("pod-0", podIP="10.0.0.1", containerStatuses=state)
    return world


def test_what_the_server_says_is_the_reason() -> None:
    world = starting()
    world.servers.told["10.0.0.1"] = Report("loading", "Loading", "minilm is loading")
    outcome = world.reconcile()
    assert world.condition("Available")[:2] == ("False", "Loading")
    assert "minilm is loading" in world.condition("Available")[2]
    assert outcome.look_again is not None
    assert outcome.look_again <= 5
    world.servers.told["10.0.0.1"] = FAILED
    world.clock.advance(5)
    world.reconcile()
    for kind in ("Available", "Ready"):
        assert world.condition(kind)[:2] == ("False", "ProviderUnavailable")
    assert "no driver" in world.condition("Ready")[2]


def test_while_it_says_the_same_nothing_is_written_and_one_event_told() -> None:
    world = starting()
    world.servers.told["10.0.0.1"] = FAILED
    world.reconcile()
    world.cluster.requests.clear()
    for _ in range(20):
        world.clock.advance(5)
        world.reconcile()
    assert world.cluster.writes() == []
    assert [event for event in world.cluster.events if event[0] == "ProviderUnavailable"] == [
        ("ProviderUnavailable", world.condition("Ready")[2], True)
    ]


def test_where_it_cannot_be_asked_that_is_said_and_nothing_guessed() -> None:
    world = starting()
    world.servers.told["10.0.0.1"] = Silence("no answer within 2 s")
    world.reconcile()
    status, reason, message = world.condition("Available")
    assert (status, reason) == ("False", "NotReady")
    assert "the operator cannot ask it why" in message
    assert "no answer within 2 s" in message


def test_what_the_server_said_is_why_its_template_was_given_up() -> None:
    world = starting()
    world.servers.told["10.0.0.1"] = FAILED
    world.reconcile()
    body = world.cluster.find("Deployment")
    body["status"]["conditions"] = [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    ]
    world.clock.advance(600)
    world.reconcile()
    assert "ProviderUnavailable: 1 of 1 pods" in world.condition("Stalled")[2]


def test_a_paused_resource_is_told_of_too() -> None:
    world = starting()
    world.em["metadata"]["annotations"] = {"inference.semantic-explorer.io/paused": "true"}
    world.servers.told["10.0.0.1"] = FAILED
    outcome = world.reconcile()
    assert world.condition("Available")[1] == "ProviderUnavailable"
    assert outcome.look_again is not None
