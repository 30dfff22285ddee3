"""What spec.podTemplate may not say: pure. It shapes the pods, and is no way to more than its author has.

Among volumes and in security contexts everything is refused that is not known to be harmless; elsewhere the
API names its privileges, and so do we. What an administrator may allow is named in PRIVILEGES.
https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

import posixpath
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, get_args

from embedding_operator import naming
from embedding_operator.api import GROUP
from embedding_operator.errors import PodTemplateRefusedError
from embedding_operator.settings import Privilege

PRIVILEGES: tuple[str, ...] = get_args(Privilege)

HOMES = {
    "nodeSelector": "spec.scheduling.nodeSelector, which the Job follows too",
    "affinity": "spec.scheduling.affinity, which the Job follows too",
    "tolerations": "spec.scheduling.tolerations, which the Job follows too",
    "topologySpreadConstraints": "spec.scheduling.topologySpreadConstraints",
    "priorityClassName": "spec.scheduling.priorityClassName",
    "imagePullSecrets": "spec.imagePullSecrets",
    "terminationGracePeriodSeconds": "spec.server.shutdownTimeoutSeconds",
}
"""Fields of a pod's spec that the resource's spec has a field of its own for."""

SERVER_HOMES = {"image": "spec.image", "resources": "spec.resources"}
"""The same of the serving container."""

SERVER_OWN = ("command", "args", "terminationMessagePath", "terminationMessagePolicy")

OWN_VARIABLES = (
    "API_WORKERS", "MAX_EMBEDDING_BATCH_SIZE", "MAX_RERANKING_BATCH_SIZE", "MAX_BATCH_TOKENS",
    "MAX_QUEUE_TOKENS", "MAX_QUEUE_WAIT_MS", "ORT_NUM_THREADS", "LOG_LEVEL", "RUST_LOG", "LOG_FORMAT",
    "OTEL_EXPORTER_OTLP_ENDPOINT", "DRAIN_DELAY_SECS", "SHUTDOWN_TIMEOUT_SECS", "API_KEY_FILE",
    "ORT_EXECUTION_PROVIDER", "DEFAULT_EMBEDDING_MODEL", "DEFAULT_RERANKING_MODEL", "MODEL_FILE",
    "HF_ENDPOINT", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "API_HOST", "API_PORT", "METRICS_PORT", "HF_HOME",
    "HF_HUB_CACHE", "PREPARED_CACHE_DIR", "HF_HUB_OFFLINE", "EXPECTED_FINGERPRINT", "MODELS_CONFIG",
    "ALLOWED_MODELS", "TMPDIR", "NODE_NAME",
)  # fmt: skip
"""Variables of the serving container that the operator sets, or that a field of the spec is for."""

OWN_CONTAINERS = (
    naming.CONTAINER, naming.PREFETCH_CONTAINER, naming.FETCH_CONTAINER, naming.COPY_CONTAINER,
    naming.CLEAR_CONTAINER,
)  # fmt: skip
OWN_VOLUMES = ("models", "prepared", "tmp", "api-key", "models-config", naming.CERTIFICATES_VOLUME)
OWN_PATHS = ("/models", "/prepared", "/tmp", "/etc/embedding-runtime")  # noqa: S108 - paths in the container
OWN_PORTS, OWN_PORT_NAMES = (8090, naming.METRICS_PORT), ("http", "metrics")
OWN_LABELS = (naming.MANAGED_BY_LABEL, naming.NAME_LABEL, naming.COMPONENT_LABEL, "pod-template-hash")

_VOLUMES = frozenset({
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected",
    "secret",
})  # fmt: skip
"""Types of volumes of the restricted Pod Security level, and images, which are read-only."""

_PROJECTED = frozenset({"configMap", "downwardAPI", "secret"})
_PROFILES = ("RuntimeDefault", "Localhost")
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_TOLD = 5
"""How many refusals a message lists."""


class Refusal(NamedTuple):
    """A path into the resource, and what to do. privilege: what an administrator would have to allow."""

    path: str
    advice: str
    privilege: str | None = None

    def __str__(self) -> str:
        if self.privilege is None:
            return f"{self.path}: {self.advice}"
        return (
            f"{self.path}: {self.advice}, or have the operator's administrator add {self.privilege} to "
            "POD_TEMPLATE_ALLOW"
        )


def check(template: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Raises PodTemplateRefusedError where spec.podTemplate says what it may not.

    allowed are of PRIVILEGES.
    """
    found = refusals(template, allowed)
    if found:
        rest = len(found) - _TOLD
        more = f"; and {rest} more" if rest > 0 else ""
        raise PodTemplateRefusedError("; ".join(str(refusal) for refusal in found[:_TOLD]) + more)


def refusals(template: Mapping[str, Any], allowed: Collection[str] = ()) -> list[Refusal]:
    """Returns what spec.podTemplate may not say, in the order of its fields."""
    at = "spec.podTemplate"
    found = [*_nulls(template, at)]
    found += _metadata(_map(template.get("metadata")), f"{at}.metadata")
    found += _pod(_map(template.get("spec")), f"{at}.spec")
    return [refusal for refusal in found if refusal.privilege not in allowed]


def held(template: Any) -> frozenset[str]:
    """Returns the privileges that a whole pod template takes, ours included, which takes none."""
    found = _pod(_map(_map(template).get("spec")), "")
    return frozenset(refusal.privilege for refusal in found if refusal.privilege is not None)


def _nulls(value: Any, at: str) -> Iterator[Refusal]:
    """A null would take one of our fields away."""
    if value is None:
        yield Refusal(at, "leave it out instead of writing null")
    elif isinstance(value, Mapping):
        for name, below in value.items():
            yield from _nulls(below, f"{at}.{name}")
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _nulls(below, f"{at}[{index}]")


def _metadata(metadata: Mapping[str, Any], at: str) -> Iterator[Refusal]:
    for part in ("labels", "annotations"):
        for name in _map(metadata.get(part)):
            if name in OWN_LABELS or name.startswith(f"{GROUP}/"):
                yield Refusal(f"{at}.{part}[{name}]", "leave it out; the operator sets it")
            if name.startswith(_APPARMOR):
                yield Refusal(f"{at}.{part}[{name}]", "leave it out", "securityContext")


def _pod(spec: Mapping[str, Any], at: str) -> Iterator[Refusal]:
    for field, home in HOMES.items():
        if field in spec:
            yield Refusal(f"{at}.{field}", f"write {home}")
    for field in ("serviceAccountName", "serviceAccount"):
        if field in spec:
            yield Refusal(f"{at}.{field}", "leave it out", "serviceAccountName")
    if "nodeName" in spec:
        yield Refusal(f"{at}.nodeName", "leave it out", "nodeName")
    for field in ("automountServiceAccountToken", "hostNetwork", "hostPID", "hostIPC", "hostUsers"):
        if spec.get(field, False) is not False:
            yield Refusal(f"{at}.{field}", "leave it out", field)
    yield from _context(spec, at)
    for volume in _list(spec.get("volumes")):
        yield from _volume(volume, f"{at}.volumes[{volume.get('name')}]")
    for part in ("initContainers", "containers"):
        for container in _list(spec.get(part)):
            yield from _container(container, part, f"{at}.{part}[{container.get('name')}]")


def _volume(volume: Mapping[str, Any], at: str) -> Iterator[Refusal]:
    if volume.get("name") in OWN_VOLUMES:
        yield Refusal(at, "give it another name; the operator has a volume of this one")
    for kind in sorted(volume.keys() - _VOLUMES - {"name"}):
        yield Refusal(f"{at}.{kind}", "leave it out", "hostPath" if kind == "hostPath" else "volumes")
    for source in _list(_map(volume.get("projected")).get("sources")):
        for kind in sorted(source.keys() - _PROJECTED):
            token = kind == "serviceAccountToken"
            privilege = "automountServiceAccountToken" if token else "volumes"
            yield Refusal(f"{at}.projected.sources.{kind}", "leave it out", privilege)


def _container(container: Mapping[str, Any], part: str, at: str) -> Iterator[Refusal]:
    name = container.get("name")
    ours = part == "containers" and name == naming.CONTAINER
    if name in OWN_CONTAINERS and not ours:
        yield Refusal(at, "give it another name; the operator has a container of this one")
    if ours:
        yield from _server(container, at)
    yield from _context(container, at, read_only=ours)
    for port in _list(container.get("ports")):
        if port.get("hostPort", 0) != 0:
            yield Refusal(f"{at}.ports[{port.get('containerPort')}].hostPort", "leave it out", "hostPorts")
    for mount in _list(container.get("volumeMounts")):
        if mount.get("name") in OWN_VOLUMES and mount.get("readOnly") is not True:
            path = f"{at}.volumeMounts[{mount.get('mountPath')}]"
            yield Refusal(path, "write readOnly: true; the volume is the operator's")
    lifecycle = _map(container.get("lifecycle"))
    actions = [(f"lifecycle.{event}", lifecycle.get(event)) for event in ("postStart", "preStop")]
    actions += [
        (probe, container.get(probe)) for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    ]
    for action, told in actions:
        for kind in ("httpGet", "tcpSocket"):
            # the node asks, and so could be made to ask somebody else than the pod
            if "host" in _map(_map(told).get(kind)):
                yield Refusal(f"{at}.{action}.{kind}.host", "leave it out", "probeHosts")


def _server(container: Mapping[str, Any], at: str) -> Iterator[Refusal]:
    """What is decided about the serving container already."""
    for field, home in SERVER_HOMES.items():
        if field in container:
            yield Refusal(f"{at}.{field}", f"write {home}")
    for field in SERVER_OWN:
        if field in container:
            yield Refusal(f"{at}.{field}", "leave it out; the operator sets it")
    for variable in _list(container.get("env")):
        if variable.get("name") in OWN_VARIABLES:
            advice = "leave it out; the operator sets it, or a field of the spec does"
            yield Refusal(f"{at}.env[{variable['name']}]", advice)
    for port in _list(container.get("ports")):
        if port.get("containerPort") in OWN_PORTS or port.get("name") in OWN_PORT_NAMES:
            yield Refusal(f"{at}.ports[{port.get('containerPort')}]", "take another; the server has this one")
    for mount in _list(container.get("volumeMounts")):
        if _covers(str(mount.get("mountPath"))):
            path = f"{at}.volumeMounts[{mount.get('mountPath')}]"
            yield Refusal(path, f"take a path that is neither within nor above {', '.join(OWN_PATHS)}")


def _covers(path: str) -> bool:
    """Returns whether a mount there would hide one of ours, or be one within it."""
    place = posixpath.normpath(f"/{path}").replace("//", "/").rstrip("/")
    return any(f"{own}/".startswith(f"{place}/") or f"{place}/".startswith(f"{own}/") for own in OWN_PATHS)


def _context(holder: Mapping[str, Any], at: str, *, read_only: bool = True) -> Iterator[Refusal]:
    """read_only: whether the root file system has to stay so."""
    if "securityContext" not in holder:
        return
    context, at = holder["securityContext"], f"{at}.securityContext"
    if not isinstance(context, Mapping):
        yield Refusal(at, "write an object")
        return
    for field, value in context.items():
        privilege = _weakening(field, value, read_only)
        if privilege is not None:
            yield Refusal(f"{at}.{field}", "leave it out", privilege)


def _weakening(field: str, value: Any, read_only: bool) -> str | None:
    """Returns the privilege that a field of a security context takes, None where it takes none."""
    match field:
        case "runAsUser" | "runAsGroup" | "fsGroup":
            return None if _positive(value) else "runAsRoot"
        case "supplementalGroups":
            harmless = isinstance(value, list) and all(_positive(group) for group in value)
            return None if harmless else "runAsRoot"
        case "runAsNonRoot":
            return None if value is True else "runAsRoot"
        case "privileged" | "allowPrivilegeEscalation":
            return None if value is False else field
        case "readOnlyRootFilesystem":
            return None if value is True or not read_only else "securityContext"
        case "capabilities":
            return None if _drops_all(value) else field
        case "seccompProfile" | "appArmorProfile":
            return None if _map(value).get("type") in _PROFILES else "securityContext"
        case "fsGroupChangePolicy" | "supplementalGroupsPolicy":
            return None
    return "securityContext"


def _drops_all(value: Any) -> bool:
    """Returns whether these capabilities add none; a list of what to drop takes the place of ours."""
    dropped = _map(value).get("drop", ["ALL"])
    return (
        isinstance(value, Mapping)
        and value.get("add", []) == []
        and isinstance(dropped, list)
        and "ALL" in dropped
    )


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _map(value: Any) -> Mapping[str, Any]:
    """What is no object where one belongs is refused by the API server."""
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
