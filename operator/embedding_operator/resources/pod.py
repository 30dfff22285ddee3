"""What every pod that we make has: the restricted Pod Security level, no token, bounded scratch space."""

from collections.abc import Mapping
from typing import Any

UID = 65532
"""User and group of both images."""

MODELS = "/models"
"""Where the claim is mounted, which is HF_HOME."""

TERMINATION_LOG = "/dev/termination-log"


def pod_spec(
    container: dict[str, Any],
    *,
    claim: str | None,
    read_only: bool,
    scratch: str,
    grace_seconds: int,
    foreign: bool = False,
) -> dict[str, Any]:
    """Returns a pod with one container, the claim at /models and an empty /tmp of at most scratch.

    Without a claim there is nothing at /models.
    container comes without what is common; that is added here. foreign: the claim's content is not ours.
    """
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UID,
            "runAsGroup": UID,
            "fsGroup": UID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            container
            | {
                "terminationMessagePath": TERMINATION_LOG,
                # the last log lines become the reason where the process could not say it itself
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - a path in the container
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": scratch}}],
    }
    if claim is not None:
        _mount_claim(spec, claim, read_only, foreign)
    return spec


def _mount_claim(spec: dict[str, Any], claim: str, read_only: bool, foreign: bool) -> None:
    volume: dict[str, Any] = {"claimName": claim}
    if foreign:
        # not only the mount: a volume for writing would get its files' group changed to fsGroup
        volume["readOnly"] = True
    spec["volumes"].insert(0, {"name": "models", "persistentVolumeClaim": volume})
    mounts = spec["containers"][0]["volumeMounts"]
    mounts.insert(0, {"name": "models", "mountPath": MODELS, "readOnly": read_only})


def mount(spec: dict[str, Any], *, name: str, path: str, source: dict[str, Any]) -> None:
    """Adds a volume from this source to a pod of pod_spec, mounted read-only at path."""
    spec["volumes"].append({"name": name} | source)
    spec["containers"][0]["volumeMounts"].append({"name": name, "mountPath": path, "readOnly": True})


def env(values: Mapping[str, str | int | None]) -> list[dict[str, Any]]:
    """Returns a container's environment; None leaves a variable out."""
    return [{"name": name, "value": str(value)} for name, value in values.items() if value is not None]
