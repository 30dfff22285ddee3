"""What every pod that we make has: the restricted Pod Security level, no token, bounded scratch space."""

from collections.abc import Mapping, Sequence
from typing import Any

from embedding_operator import naming

UID = 65532
"""User and group of both images."""

MODELS = "/models"
"""Where the models' volume is mounted, which is HF_HOME."""

PREPARED = "/prepared"
"""Where a serving pod keeps what it makes of the model for itself."""

TERMINATION_LOG = "/dev/termination-log"


def pod_spec(
    container: dict[str, Any],
    *,
    models: dict[str, Any] | None,
    read_only: bool,
    scratch: str,
    grace_seconds: int,
) -> dict[str, Any]:
    """Returns a pod with one container, a volume of this source at /models, and a /tmp of at most scratch.

    Without such a volume there is nothing at /models.
    container comes without what is common; that is added here.
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
        "containers": [_common(container)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": scratch}}],
    }
    if models is not None:
        spec["volumes"].insert(0, {"name": naming.MODELS_VOLUME} | models)
        _mount_models(spec["containers"][0], read_only=read_only)
    return spec


def claimed(name: str, *, foreign: bool = False) -> dict[str, Any]:
    """Returns a claim as a volume's source. foreign: its content is not ours."""
    source: dict[str, Any] = {"claimName": name}
    if foreign:
        # not only the mount: a volume for writing would get its files' group changed to fsGroup
        source["readOnly"] = True
    return {"persistentVolumeClaim": source}


def add_scratch(spec: dict[str, Any], container: dict[str, Any], *, name: str, path: str, size: str) -> None:
    """Adds room of at most this size on the node's disk to a pod of pod_spec, for one container to write."""
    spec["volumes"].append({"name": name, "emptyDir": {"sizeLimit": size}})
    container["volumeMounts"].append({"name": name, "mountPath": path})


def start_with(spec: dict[str, Any], container: dict[str, Any], at: str = MODELS) -> dict[str, Any]:
    """Adds to a pod of pod_spec an init container that writes the models' volume, which it has at this path.

    Returns it as it is there.
    """
    made = _common(container)
    _mount_models(made, read_only=False, at=at)
    spec.setdefault("initContainers", []).append(made)
    return made


def mount(
    spec: dict[str, Any],
    *,
    name: str,
    path: str,
    source: dict[str, Any],
    into: Sequence[dict[str, Any]] | None = None,
) -> None:
    """Adds a volume from this source to a pod of pod_spec, mounted read-only at path.

    into are the containers that it is for, those that are no init containers where that is not said.
    """
    spec["volumes"].append({"name": name} | source)
    for container in spec["containers"] if into is None else into:
        container["volumeMounts"].append({"name": name, "mountPath": path, "readOnly": True})


def env(values: Mapping[str, str | int | None]) -> list[dict[str, Any]]:
    """Returns a container's environment; None leaves a variable out."""
    return [{"name": name, "value": str(value)} for name, value in values.items() if value is not None]


def _common(container: dict[str, Any]) -> dict[str, Any]:
    return container | {
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


def _mount_models(container: dict[str, Any], *, read_only: bool, at: str = MODELS) -> None:
    mounted = {"name": naming.MODELS_VOLUME, "mountPath": at, "readOnly": read_only}
    container["volumeMounts"].insert(0, mounted)
