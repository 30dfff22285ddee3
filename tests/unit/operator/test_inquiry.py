"""When a pod's server is asked: at once, then rarely while it is not ready, and once when it is."""

import asyncio
from typing import Any

from embedding_operator import api, naming
from embedding_operator.lookups.inquiry import AT_ONCE, Inquiry
from embedding_operator.observed import POD, Observed, observed
from embedding_operator.readiness import Report, Silence, Told
from tests.unit.operator import samples
from tests.unit.operator.fakes import Clock, FakeServers

LOADING, READY = (
    Report("loading", "Loading", "a/b is loading"),
    Report("ready", provider="cpu", precision="fp32"),
)


class Asking:
    """An inquiry about one resource whose pods are as the test says."""

    def __init__(self) -> None:
        self.clock, self.servers = Clock(), FakeServers()
        self.inquiry = Inquiry(self.servers)

    def ask(self, *pods: dict[str, Any]) -> tuple[Observed, float | None]:
        """What is known then, and in how many seconds the next question is due."""
        seen = observed(api.parse(samples.model_body()), {POD: pods})
        self.servers.asked.clear()
        found, again = asyncio.run(self.inquiry.ask(seen, self.clock()))
        return found, None if again is None else (again - self.clock()).total_seconds()

    def pod(
        self, name: str = "a", *, ready: bool = False, restarts: int = 0, **changes: Any
    ) -> dict[str, Any]:
        pod = samples.pod(
            name,
            podIP=f"10.0.0.{name}",
            conditions=[
                {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T12:00:00Z"}
            ],
            containerStatuses=samples.container_status(
                naming.CONTAINER, {"running": {}}, started=True, restartCount=restarts
            ),
        )
        pod["metadata"] |= {"uid": f"uid-{name}"}
        pod["status"] |= changes
        return pod

    def says(self, told: Told, name: str = "a") -> None:
        self.servers.told[f"10.0.0.{name}"] = told


def test_a_pod_that_is_not_ready_is_asked_at_its_management_port_and_again_after_a_while() -> None:
    asking = Asking()
    asking.says(LOADING)
    seen, again = asking.ask(asking.pod())
    assert asking.servers.asked == [("10.0.0.a", 9090)]
    assert seen.heard == {"uid-a": LOADING}
    assert again == 5
    asking.clock.advance(4)
    seen, again = asking.ask(asking.pod())
    assert asking.servers.asked == []
    assert seen.heard == {"uid-a": LOADING}
    assert again == 1
    asking.clock.advance(1)
    asking.ask(asking.pod())
    assert len(asking.servers.asked) == 1


def test_the_longer_it_lasts_the_rarer_it_is_asked() -> None:
    asking, pauses = Asking(), []
    for _ in range(100):
        _, again = asking.ask(asking.pod())
        assert again is not None
        pauses.append(again)
        asking.clock.advance(again)
    assert pauses == sorted(pauses)
    assert pauses[0] == 5
    assert pauses[-1] == 60


def test_a_ready_pod_is_asked_once_and_again_after_a_restart() -> None:
    asking = Asking()
    asking.says(READY)
    _, again = asking.ask(asking.pod(ready=True))
    assert again is None
    asking.clock.advance(3600)
    seen, _ = asking.ask(asking.pod(ready=True))
    assert asking.servers.asked == []
    assert seen.heard == {"uid-a": READY}
    asking.ask(asking.pod(ready=True, restarts=1))
    assert len(asking.servers.asked) == 1


def test_a_pod_that_becomes_ready_is_asked_at_once() -> None:
    asking = Asking()
    asking.says(LOADING)
    asking.ask(asking.pod())
    asking.says(READY)
    seen, again = asking.ask(asking.pod(ready=True))
    assert seen.heard == {"uid-a": READY}
    assert again is None


def test_a_ready_pod_that_cannot_be_asked_is_tried_again() -> None:
    asking = Asking()
    seen, again = asking.ask(asking.pod(ready=True))
    assert isinstance(seen.heard["uid-a"], Silence)
    assert again == 5


def test_only_servers_that_run_in_pods_that_stay_are_asked() -> None:
    asking = Asking()
    leaving = asking.pod("leaving")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    starting = samples.container_status(naming.CONTAINER, {"running": {}}, started=False)
    prefetching = samples.container_status(naming.PREFETCH_CONTAINER, {"running": {}}, started=True)
    pods = [
        leaving,
        asking.pod("starting", containerStatuses=starting),
        asking.pod("prefetching", containerStatuses=prefetching),
        asking.pod("homeless", podIP=""),
        asking.pod("pending", containerStatuses=[]),
    ]
    seen, again = asking.ask(*pods)
    assert asking.servers.asked == []
    assert (seen.heard, again) == ({}, None)


def test_what_a_pod_said_goes_with_the_pod() -> None:
    asking = Asking()
    asking.ask(asking.pod("a"), asking.pod("b"))
    seen, _ = asking.ask(asking.pod("b"))
    assert list(seen.heard) == ["uid-b"]


def test_a_large_set_is_asked_in_parts() -> None:
    asking = Asking()
    pods = [asking.pod(str(number), ready=True) for number in range(AT_ONCE + 5)]
    for number in range(len(pods)):
        asking.says(READY, str(number))
    _, again = asking.ask(*pods)
    assert len(asking.servers.asked) == AT_ONCE
    assert again is not None
    assert again < 0
    seen, again = asking.ask(*pods)
    assert len(asking.servers.asked) == 5
    assert (len(seen.heard), again) == (len(pods), None)
