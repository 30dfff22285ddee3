"""What Events say of a pod, a Job and a claim: the last word counts, and not what is over."""

from datetime import timedelta

import pytest

from embedding_operator.health import incidents
from embedding_operator.health.incidents import Incident
from tests.unit.operator import samples

MOUNT = 'MountVolume.SetUp failed for volume "api-key" : secret "keys" not found'
REFUSED = 'Error creating: pods "minilm-1-auto-x7k2p" is forbidden: exceeded quota: few, requested: pods=1'


def at(second: int, reason: str, message: str = "") -> Incident:
    return Incident(reason, message, samples.AT + timedelta(seconds=second))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        pytest.param([], "", id="nothing"),
        pytest.param([at(0, "Scheduled"), at(1, "FailedMount", MOUNT)], MOUNT, id="it fails"),
        pytest.param([at(1, "FailedMount", "old"), at(2, "FailedMount", MOUNT)], MOUNT, id="the last word"),
        pytest.param(
            [at(1, "FailedMount", MOUNT), at(2, "Pulling")], "", id="it went on, and pulls an image"
        ),
        pytest.param([at(1, "FailedMount", MOUNT), at(1, "Pulled")], "", id="in the same second"),
        pytest.param([at(1, "FailedAttachVolume", "a"), at(3, "SuccessfulAttachVolume")], "", id="attached"),
        pytest.param([at(1, "Pulling"), at(2, "FailedMount", MOUNT)], MOUNT, id="again"),
    ],
)
def test_a_volume_that_cannot_be_mounted(told: list[Incident], words: str) -> None:
    assert incidents.mount_failure(told) == words


KILLING = "Container server failed {} probe, will be restarted"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        pytest.param([at(5, "Unhealthy", "Startup probe failed: HTTP 503")], "", id="it failed and goes on"),
        pytest.param(
            [at(4, "Unhealthy", "Startup probe failed: x"),
             at(5, "Unhealthy", "Startup probe failed: HTTP 503"),
             at(6, "Killing", KILLING.format("startup"))],
            "its startup probe failed: HTTP 503", id="at start",
        ),
        pytest.param(
            [at(5, "Unhealthy", "Liveness probe failed: no answer"),
             at(6, "Unhealthy", "Readiness probe failed: HTTP 503"),
             at(6, "Killing", KILLING.format("liveness"))],
            "its liveness probe failed: no answer", id="later",
        ),
        pytest.param([at(6, "Killing", KILLING.format("liveness"))], "its liveness probe failed", id="mute"),
        pytest.param([at(6, "Killing", "Stopping container server")], "", id="stopped for another reason"),
        pytest.param(
            [at(6, "Killing", KILLING.format("liveness").replace("server", "side"))], "", id="another's"
        ),
        pytest.param([at(-1, "Killing", KILLING.format("liveness"))], "", id="an earlier run of it"),
    ],
)  # fmt: skip
def test_a_probe_that_had_a_container_killed(told: list[Incident], words: str) -> None:
    assert incidents.killed_by(told, "server", samples.AT) == words


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([], ""),
        ([at(1, "FailedCreate", REFUSED)], "exceeded quota: few, requested: pods=1"),
        ([at(1, "FailedCreate", REFUSED), at(2, "SuccessfulCreate", "Created pod: a")], ""),
        ([at(1, "FailedCreate", "Error creating: Internal error")], "Internal error"),
    ],
)
def test_a_pod_that_cannot_be_created_by_words_that_stay_the_same(told: list[Incident], words: str) -> None:
    assert incidents.refused_pod(told) == words


@pytest.mark.parametrize(
    ("told", "waited", "words"),
    [
        ([at(1, "WaitForFirstConsumer", "waiting for first consumer")], 600, ""),
        ([at(1, "FailedBinding", "no storage class is set")], 1, "no storage class is set"),
        ([at(1, "ProvisioningFailed", 'class "x" not found')], 1, 'class "x" not found'),
        ([at(1, "ExternalProvisioning", "waiting for x")], 59, ""),
        ([at(1, "ExternalProvisioning", "waiting for x")], 60, "waiting for x"),
    ],
)
def test_a_claim_without_a_volume(told: list[Incident], waited: int, words: str) -> None:
    assert incidents.unbound(told, timedelta(seconds=waited)) == words
