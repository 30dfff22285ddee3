"""Every pod that a builder makes, as in its golden file: restricted, and without a token of the cluster."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

GOLDEN = Path(__file__).parent / "golden"
RESTRICTED_VOLUMES = {"configMap", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "secret"}
NO_SECRETS = {"MAX_BATCH_TOKENS", "MAX_QUEUE_TOKENS", "API_KEY_FILE"}


def pods(found: Any) -> Iterator[dict[str, Any]]:
    """Pod specs at any depth of an object: in a Deployment, a Job, or the data of a ControllerRevision."""
    if isinstance(found, dict):
        if "containers" in found:
            yield found
        for below in found.values():
            yield from pods(below)
    if isinstance(found, list):
        for below in found:
            yield from pods(below)


PODS = [
    pytest.param(pod, id=path.stem)
    for path in sorted(GOLDEN.glob("*.yaml"))
    if not path.stem.startswith("revision")  # its template is the test's own
    for pod in pods(yaml.safe_load(path.read_text()))
]


def test_there_are_pods_of_both_kinds() -> None:
    names = {param.id for param in PODS}
    assert {"deployment", "deployment-gpu", "job", "job-gpu"} <= names


@pytest.mark.parametrize("pod", PODS)
def test_no_pod_mounts_a_token_of_the_cluster(pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pod
    assert not [volume for volume in pod["volumes"] if "projected" in volume]


@pytest.mark.parametrize("pod", PODS)
def test_every_container_is_restricted(pod: dict[str, Any]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & pod.keys()
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not [port for port in container.get("ports", ()) if "hostPort" in port]
    for volume in pod["volumes"]:
        assert len(RESTRICTED_VOLUMES & volume.keys()) == 1


@pytest.mark.parametrize("pod", PODS)
def test_no_secret_is_an_argument_or_a_plain_variable(pod: dict[str, Any]) -> None:
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        words = " ".join([*container.get("command", ()), *container.get("args", ())])
        assert "token" not in words.lower()
        plain = {item["name"] for item in container.get("env", ()) if "value" in item}
        assert {name for name in plain if "TOKEN" in name or "KEY" in name} <= NO_SECRETS
