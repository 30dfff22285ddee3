"""Why pods are not ready: one reason and one message from what kubelet and the scheduler write."""

from typing import Any

import pytest

from embedding_operator.health import pods
from embedding_operator.readiness import Report, Silence, Told
from tests.unit.operator import samples

SERVER = "server"


def container(state: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"phase": "Running", "containerStatuses": samples.container_status(SERVER, state, **rest)}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


OOM = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
CRASH = {"terminated": {"exitCode": 1, "reason": "Error", "message": "Traceback\n  ValueError: no tokenizer"}}


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        pytest.param({"conditions": [{"type": "Ready", "status": "True"}]}, None, "", id="ready"),
        pytest.param({"phase": "Succeeded"}, None, "", id="ended well"),
        pytest.param(
            {"phase": "Pending", "conditions": samples.unscheduled("0/3 nodes are available.")},
            "Unschedulable", "0/3 nodes are available.", id="unschedulable",
        ),
        pytest.param({"phase": "Pending"}, "Starting", "set up", id="no container yet"),
        pytest.param(container(waiting("ContainerCreating")), "Starting", "created", id="creating"),
        pytest.param(container(waiting("ErrImagePull")), "ImagePullBackOff", "server:1", id="pull error"),
        pytest.param(container(waiting("ImagePullBackOff")), "ImagePullBackOff", "server:1", id="back-off"),
        pytest.param(container(waiting("ErrImageNeverPull")), "ErrImageNeverPull", "Never", id="never"),
        pytest.param(
            container(waiting("CreateContainerConfigError", "secret \"x\" not found")),
            "CreateContainerConfigError", "secret", id="config",
        ),
        pytest.param(
            container(waiting("CrashLoopBackOff", "back-off 20s"), lastState=CRASH, restartCount=3),
            "CrashLoopBackOff", "exit code 1: Traceback ValueError: no tokenizer", id="crash loop",
        ),
        pytest.param(
            container({"running": {}}, started=False, lastState=CRASH, restartCount=1),
            "CrashLoopBackOff", "exit code 1", id="between two crashes",
        ),
        pytest.param(container(CRASH), "CrashLoopBackOff", "exit code 1", id="just crashed"),
        pytest.param(
            container(waiting("CrashLoopBackOff"), lastState=OOM, restartCount=1),
            "OOMKilled", "more memory than its limit", id="out of memory",
        ),
        pytest.param(container({"running": {}}, started=False), "Starting", "starting", id="starting"),
        pytest.param(container({"running": {}}, started=True), "NotReady", "not ready", id="not ready"),
        pytest.param(
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            "Evicted", "low on resource", id="evicted",
        ),
    ],
)  # fmt: skip
def test_a_pods_state_becomes_a_reason(status: dict[str, Any], reason: str | None, words: str) -> None:
    problem = pods.diagnosis(samples.pod("p", **status), SERVER)
    assert (problem.reason if problem else None) == reason
    assert words in (problem.message if problem else "")


@pytest.mark.parametrize(
    ("told", "reason", "words", "is_root_cause"),
    [
        pytest.param(Report("loading", "Loading", "a/b loads"), "Loading", "a/b loads", False, id="loading"),
        pytest.param(Report("draining", "Draining", "it stops"), "Draining", "stops", False, id="draining"),
        pytest.param(
            Report("load_failed", "ProviderUnavailable", "no CUDA"), "ProviderUnavailable", "no CUDA", True,
            id="no GPU",
        ),
        pytest.param(
            Report("exhausted", "OutOfMemory", "too large"), "OutOfMemory", "too large", True, id="no memory"
        ),
        pytest.param(Report("ready"), "NotReady", "says that it is ready", False, id="ready a moment ago"),
        pytest.param(
            Silence("no answer within 2 s"), "NotReady", "/health/ready at port 9090: no answer", False,
            id="cannot be asked",
        ),
    ],
)  # fmt: skip
def test_a_server_that_runs_is_not_ready_for_the_reason_that_it_gives(
    told: Told, reason: str, words: str, is_root_cause: bool
) -> None:
    pod = samples.pod("p", **container({"running": {}}, started=True))
    problem = pods.diagnosis(pod, SERVER, told)
    assert problem
    assert problem.reason == reason
    assert words in problem.message
    assert (problem.rank >= pods.ROOT_CAUSE) is is_root_cause


@pytest.mark.parametrize("state", [waiting("CrashLoopBackOff"), CRASH])
def test_a_container_beside_the_server_is_named_where_it_is_what_fails(state: dict[str, Any]) -> None:
    statuses = container({"running": {}}, started=True)
    statuses["containerStatuses"] += samples.container_status("side", state, lastState=CRASH)
    problem = pods.diagnosis(samples.pod("p", **statuses), SERVER, Report("ready"))
    assert problem
    assert problem.reason == "CrashLoopBackOff"
    assert problem.message.startswith("container side ended with exit code 1")


def test_what_a_server_said_before_it_crashed_is_not_what_is_wrong() -> None:
    crashed = container(waiting("CrashLoopBackOff"), lastState=CRASH, restartCount=1)
    problem = pods.diagnosis(samples.pod("p", **crashed), SERVER, Report("loading", "Loading", "a/b"))
    assert problem
    assert problem.reason == "CrashLoopBackOff"


def test_the_message_does_not_change_by_itself() -> None:
    def crash(count: int) -> str:
        state = container(
            waiting("CrashLoopBackOff", f"back-off {count * 10}s"), lastState=CRASH, restartCount=count
        )
        found = pods.diagnosis(samples.pod("p", **state), SERVER)
        assert found
        return found.message

    assert crash(1) == crash(9)


def test_the_gravest_problem_is_told_with_how_many_share_it() -> None:
    known = [
        samples.pod("a", **container({"running": {}}, started=False)),
        samples.pod("b", **container(waiting("ImagePullBackOff"))),
        samples.pod("c", **container(waiting("ErrImagePull"))),
        samples.pod("d", conditions=[{"type": "Ready", "status": "True"}]),
    ]
    problem = pods.worst(known, SERVER, {})
    assert problem
    assert problem.reason == "ImagePullBackOff"
    assert problem.message.startswith("2 of 4 pods: ")


def test_foreign_text_is_one_line_of_bounded_length_with_both_ends() -> None:
    assert pods.clip("a\n  b") == "a b"
    assert len(pods.clip("x" * 5000)) < 700
    assert pods.clip("x" * 5000 + "the end").endswith("the end")
    assert pods.clip("the start" + "x" * 5000).startswith("the start")


def test_the_registrys_words_are_told_and_the_same_while_the_kubelet_waits() -> None:
    def told(reason: str, message: str) -> str:
        found = pods.diagnosis(samples.pod("p", **container(waiting(reason, message))), SERVER)
        assert found
        return found.message

    words = 'failed to pull image "x:1": lookup registry.example on 10.96.0.10:53: read udp {}10.96.0.10:53'
    failed = words.format("10.244.1.7:40312->")
    again = f'Back-off pulling image "x:1": ErrImagePull: {words.format("10.244.1.7:51877->")}'
    assert words.format("") in told("ErrImagePull", failed)
    assert told("ErrImagePull", failed) == told("ImagePullBackOff", again)
