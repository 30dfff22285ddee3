"""What the status says of provider and precision is what the pods say; a fall-back has its own reason."""

from typing import Any

from embedding_operator.readiness import Report, Silence
from tests.unit.operator import samples
from tests.unit.operator.world import World

CPU = Report("ready", provider="cpu", precision="fp32")
FALLEN = Report("ready", provider="cpu", precision="fp32", fallback="CUDA requested but not available")
CUDA = Report("ready", provider="cuda", precision="fp16")


def serving(*told: Report | Silence, **spec: Any) -> World:
    """A world that serves, whose pods say this."""
    world = World(replicas=len(told), **spec)
    world.cluster.hosts = ["gpu-node"]
    world.serve()
    for number, said in enumerate(told):
        world.server_pod(
            f"pod-{number}",
            podIP=f"10.0.0.{number}",
            conditions=[{"type": "Ready", "status": "True"}],
            containerStatuses=samples.container_status("server", {"running": {}}, started=True),
        )
        world.servers.told[f"10.0.0.{number}"] = said
    world.reconcile()
    return world


def test_the_status_says_what_the_pods_compute_with() -> None:
    status = serving(CPU, CPU).em["status"]
    assert (status["provider"], status["precision"]) == ("cpu", "fp32")
    assert status["summary"]["provider"] == "cpu"


def test_before_a_pod_has_told_the_column_says_what_is_asked_for() -> None:
    status = serving(Silence("no answer within 2 s"), gpu=samples.GPU).em["status"]
    assert "provider" not in status
    assert status["summary"]["provider"] == "cuda"


def test_a_restarted_operator_that_reaches_no_pod_keeps_what_they_told_before() -> None:
    world = serving(CUDA, CUDA, gpu=samples.GPU)
    world.servers.told.clear()
    world.restart_operator()
    world.cluster.requests.clear()
    world.reconcile()
    assert world.cluster.writes() == []
    assert world.em["status"]["provider"] == "cuda"


def test_a_fall_back_that_was_allowed_is_told_by_a_reason_of_its_own_and_one_warning() -> None:
    world = serving(CUDA, FALLEN, gpu=samples.GPU)
    assert world.em["status"]["provider"] == "cpu, cuda"
    for kind in ("Available", "Ready"):
        status, reason, message = world.condition(kind)
        assert (status, reason) == ("True", "CPUFallback")
        assert "1 of 2 pods fell back to the CPU: CUDA requested but not available" in message
    for _ in range(3):
        world.reconcile()
    assert [(reason, warning) for reason, _, warning in world.cluster.events][-1] == ("CPUFallback", True)
    assert sum(reason == "CPUFallback" for reason, _, _ in world.cluster.events) == 1


def test_a_set_without_pods_computes_with_nothing() -> None:
    world = serving(CPU)
    world.change(replicas=0)
    world.cluster.remove("Pod", "pod-0")
    world.settle()
    assert "provider" not in world.em["status"]
