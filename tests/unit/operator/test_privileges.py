"""spec.podTemplate is no way up: what takes a privilege, or the place of something of ours, is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_operator.api import GROUP
from embedding_operator.errors import PodTemplateRefusedError
from embedding_operator.resources.deployment import deployment
from embedding_operator.sets import privileges
from tests.unit.operator import samples

GOLDEN = Path(__file__).parent / "golden"

Object = dict[str, Any]


def template(em: Any) -> Any:
    return deployment(em, samples.facts(em), samples.RUNTIME)["spec"]["template"]


EM = samples.model(
    server={"apiKeySecretRef": {"name": "keys", "key": "clients"}},
    env=[{"name": "MINE", "value": "1"}],
)
BASE = template(EM)


def in_server(**part: Any) -> Object:
    return {"spec": {"containers": [{"name": "server", **part}]}}


def beside(**part: Any) -> Object:
    return {"spec": {"containers": [{"name": "side", "image": "side:1", **part}]}}


def before(**part: Any) -> Object:
    return {"spec": {"initContainers": [{"name": "first", "image": "first:1", **part}]}}


def secured(**context: Any) -> Object:
    return in_server(securityContext=context)


def volume(**source: Any) -> Object:
    return {"spec": {"volumes": [{"name": "mine", **source}]}}


S = "spec.podTemplate.spec"
CONTEXT = f"{S}.securityContext"
SERVER = f"{S}.containers[server]"
SERVED = f"{SERVER}.securityContext"

WAYS_UP = [
    ({"spec": {"serviceAccountName": "admin"}}, f"{S}.serviceAccountName", "serviceAccountName"),
    ({"spec": {"serviceAccount": "admin"}}, f"{S}.serviceAccount", "serviceAccountName"),
    ({"spec": {"automountServiceAccountToken": True}}, f"{S}.automountServiceAccountToken", None),
    ({"spec": {"nodeName": "control-plane"}}, f"{S}.nodeName", None),
    ({"spec": {"hostNetwork": True}}, f"{S}.hostNetwork", None),
    ({"spec": {"hostPID": True}}, f"{S}.hostPID", None),
    ({"spec": {"hostIPC": True}}, f"{S}.hostIPC", None),
    ({"spec": {"hostUsers": True}}, f"{S}.hostUsers", None),
    ({"spec": {"hostNetwork": "true"}}, f"{S}.hostNetwork", None),
    ({"spec": {"securityContext": {"runAsUser": 0}}}, f"{CONTEXT}.runAsUser", "runAsRoot"),
    ({"spec": {"securityContext": {"runAsNonRoot": False}}}, f"{CONTEXT}.runAsNonRoot", "runAsRoot"),
    ({"spec": {"securityContext": {"fsGroup": 0}}}, f"{CONTEXT}.fsGroup", "runAsRoot"),
    ({"spec": {"securityContext": {"supplementalGroups": [1, 0]}}}, f"{CONTEXT}.supplementalGroups",
     "runAsRoot"),
    ({"spec": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}},
     f"{CONTEXT}.sysctls", "securityContext"),
    ({"spec": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}},
     f"{CONTEXT}.seccompProfile", "securityContext"),
    ({"spec": {"securityContext": {"windowsOptions": {"hostProcess": True}}}},
     f"{CONTEXT}.windowsOptions", "securityContext"),
    (volume(hostPath={"path": "/"}), f"{S}.volumes[mine].hostPath", "hostPath"),
    (volume(nfs={"server": "a", "path": "/"}), f"{S}.volumes[mine].nfs", "volumes"),
    (volume(projected={"sources": [{"serviceAccountToken": {"path": "t"}}]}),
     f"{S}.volumes[mine].projected.sources.serviceAccountToken", "automountServiceAccountToken"),
    (volume(projected={"sources": [{"podCertificate": {"signerName": "a/b"}}]}),
     f"{S}.volumes[mine].projected.sources.podCertificate", "volumes"),
    (secured(privileged=True), f"{SERVED}.privileged", "privileged"),
    (secured(allowPrivilegeEscalation=True), f"{SERVED}.allowPrivilegeEscalation", None),
    (secured(capabilities={"add": ["SYS_ADMIN"]}), f"{SERVED}.capabilities", "capabilities"),
    (secured(capabilities={"drop": []}), f"{SERVED}.capabilities", "capabilities"),
    (secured(capabilities={"drop": ["NET_RAW"]}), f"{SERVED}.capabilities", "capabilities"),
    (secured(runAsUser=0), f"{SERVED}.runAsUser", "runAsRoot"),
    (secured(runAsUser="0"), f"{SERVED}.runAsUser", "runAsRoot"),
    (secured(runAsNonRoot=False), f"{SERVED}.runAsNonRoot", "runAsRoot"),
    (secured(readOnlyRootFilesystem=False), f"{SERVED}.readOnlyRootFilesystem",
     "securityContext"),
    (secured(procMount="Unmasked"), f"{SERVED}.procMount", "securityContext"),
    (secured(seLinuxOptions={"type": "spc_t"}), f"{SERVED}.seLinuxOptions", "securityContext"),
    (secured(notInvented=1), f"{SERVED}.notInvented", "securityContext"),
    (beside(securityContext={"privileged": True}), f"{S}.containers[side].securityContext.privileged",
     "privileged"),
    (before(securityContext={"runAsUser": 0}), f"{S}.initContainers[first].securityContext.runAsUser",
     "runAsRoot"),
    (beside(ports=[{"containerPort": 80, "hostPort": 80}]), f"{S}.containers[side].ports[80].hostPort",
     "hostPorts"),
    (in_server(livenessProbe={"httpGet": {"host": "10.0.0.1"}}), f"{SERVER}.livenessProbe.httpGet.host",
     "probeHosts"),
    (in_server(lifecycle={"preStop": {"tcpSocket": {"host": "10.0.0.1"}}}),
     f"{SERVER}.lifecycle.preStop.tcpSocket.host", "probeHosts"),
    ({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/server": "unconfined"}}},
     "spec.podTemplate.metadata.annotations[container.apparmor.security.beta.kubernetes.io/server]",
     "securityContext"),
]  # fmt: skip
"""A template, the path that is refused, and what allows it where that is not the path's end."""


@pytest.mark.parametrize(("given_template", "path", "privilege"), WAYS_UP, ids=lambda value: str(value)[:60])
def test_a_way_up_is_refused_by_its_path_unless_it_is_allowed(
    given_template: Object, path: str, privilege: str | None
) -> None:
    privilege = privilege or path.rpartition(".")[2]
    (refusal,) = privileges.refusals(given_template)
    assert (refusal.path, refusal.privilege) == (path, privilege)
    assert f"add {privilege} to POD_TEMPLATE_ALLOW" in str(refusal)
    assert privileges.refusals(given_template, {privilege}) == []
    others = set(privileges.PRIVILEGES) - {privilege}
    assert privileges.refusals(given_template, others) == [refusal]


def test_every_privilege_that_can_be_allowed_is_one_that_is_refused() -> None:
    told = {privilege or path.rpartition(".")[2] for _, path, privilege in WAYS_UP}
    assert told == set(privileges.PRIVILEGES)


@pytest.mark.parametrize(
    ("given_template", "path", "words"),
    [
        ({"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}}, "managed-by]", "leave it out"),
        ({"metadata": {"labels": {"inference.semantic-explorer.io/model": "x"}}}, "model]", "leave it out"),
        ({"spec": {"nodeSelector": {"a": "b"}}}, f"{S}.nodeSelector", "spec.scheduling.nodeSelector"),
        ({"spec": {"imagePullSecrets": []}}, f"{S}.imagePullSecrets", "spec.imagePullSecrets"),
        ({"spec": {"terminationGracePeriodSeconds": 1}}, "Seconds", "spec.server.shutdownTimeoutSeconds"),
        ({"spec": {"enableServiceLinks": None}}, f"{S}.enableServiceLinks", "instead of writing null"),
        (in_server(image="mine:1"), f"{SERVER}.image", "write spec.image"),
        (in_server(resources={}), f"{SERVER}.resources", "write spec.resources"),
        (in_server(command=["sh"]), f"{SERVER}.command", "the operator sets it"),
        (in_server(args=["serve"]), f"{SERVER}.args", "the operator sets it"),
        (in_server(env=[{"name": "HF_HUB_OFFLINE", "value": "0"}]), "env[HF_HUB_OFFLINE]", "sets it"),
        (in_server(ports=[{"containerPort": 8090}]), f"{SERVER}.ports[8090]", "take another"),
        (in_server(ports=[{"containerPort": 1, "name": "http"}]), f"{SERVER}.ports[1]", "take another"),
        (in_server(volumeMounts=[{"name": "mine", "mountPath": "/models"}]), "[/models]", "neither within"),
        (in_server(volumeMounts=[{"name": "mine", "mountPath": "/models/x/.."}]), "/..]", "neither"),
        (in_server(volumeMounts=[{"name": "mine", "mountPath": "/etc/embedding-runtime/models"}]), "models]",
         "neither within"),
        (in_server(volumeMounts=[{"name": "mine", "mountPath": "/etc"}]), "[/etc]", "nor above"),
        (in_server(volumeMounts=[{"name": "mine", "mountPath": "//"}]), "[//]", "nor above"),
        (beside(volumeMounts=[{"name": "models", "mountPath": "/m"}]), "[/m]", "readOnly: true"),
        ({"spec": {"volumes": [{"name": "models", "emptyDir": {}}]}}, f"{S}.volumes[models]", "another name"),
        ({"spec": {"containers": [{"name": "prefetch"}]}}, f"{S}.containers[prefetch]", "another name"),
        ({"spec": {"initContainers": [{"name": "server"}]}}, f"{S}.initContainers[server]", "another name"),
        (in_server(securityContext="none"), SERVED, "write an object"),
    ],
)  # fmt: skip
def test_what_is_decided_already_nobody_may_overwrite(given_template: Object, path: str, words: str) -> None:
    (refusal,) = privileges.refusals(given_template, privileges.PRIVILEGES)
    assert refusal.path.startswith("spec.podTemplate.")
    assert refusal.path.endswith(path)
    assert words in str(refusal)
    assert refusal.privilege is None


@pytest.mark.parametrize(
    "harmless",
    [
        {},
        {"metadata": {"labels": {"team": "search"}, "annotations": {"example.com/scrape": "true"}}},
        {"spec": {"hostNetwork": False, "hostUsers": False, "automountServiceAccountToken": False}},
        {"spec": {"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}, "schedulerName": "mine"}},
        {"spec": {"securityContext": {"runAsUser": 1000, "fsGroup": 1000, "supplementalGroups": [7]}}},
        secured(seccompProfile={"type": "Localhost", "localhostProfile": "a.json"}),
        secured(capabilities={"drop": ["ALL"]}, privileged=False, runAsNonRoot=True),
        in_server(startupProbe={"failureThreshold": 900}, volumeMounts=[{"name": "x", "mountPath": "/data"}]),
        beside(securityContext={"readOnlyRootFilesystem": False}, ports=[{"containerPort": 9000}]),
        before(volumeMounts=[{"name": "models", "mountPath": "/models", "readOnly": True}]),
        volume(secret={"secretName": "mine"}),
        volume(projected={"sources": [{"configMap": {"name": "a"}}, {"downwardAPI": {"items": []}}]}),
    ],
)
def test_what_takes_no_privilege_is_let_through(harmless: Object) -> None:
    assert privileges.refusals(harmless) == []
    privileges.check(harmless, ())


def test_a_long_list_of_refusals_is_cut() -> None:
    many = {"spec": {"volumes": [{"name": f"v{i}", "hostPath": {"path": "/"}} for i in range(9)]}}
    with pytest.raises(PodTemplateRefusedError, match=r"volumes\[v4\].hostPath.*; and 4 more$"):
        privileges.check(many, ())


def test_every_variable_and_volume_of_a_pod_is_known_as_ours() -> None:
    (server,) = BASE["spec"]["containers"]
    assert {item["name"] for item in server["env"]} - {"MINE"} <= set(privileges.OWN_VARIABLES)
    assert {item["name"] for item in BASE["spec"]["volumes"]} <= set(privileges.OWN_VOLUMES)
    assert all(privileges._covers(mount["mountPath"]) for mount in server["volumeMounts"])
    assert {port["containerPort"] for port in server["ports"]} == set(privileges.OWN_PORTS)
    assert {port["name"] for port in server["ports"]} == set(privileges.OWN_PORT_NAMES)


# --- whatever is written

ODD: list[Any] = [
    True, False, 0, 1, 65532, -1, "", "0", "true", "x", "ALL", None, [], {}, [0], [7], ["ALL"], ["SYS_ADMIN"],
    {"type": "Unconfined"}, {"type": "RuntimeDefault"}, {"type": 3}, {"add": ["SYS_ADMIN"]}, {"drop": []},
    {"drop": ["ALL"], "add": []}, {"drop": ["ALL"], "add": ["NET_RAW"]}, {"drop": "ALL"}, {"path": "/"},
    {"hostProcess": True}, {"sources": [{"serviceAccountToken": {"path": "t"}}]}, "Unmasked", "Unconfined",
]  # fmt: skip
odd = st.sampled_from(ODD)


def some(*parts: st.SearchStrategy[Object], **always: st.SearchStrategy[Any]) -> st.SearchStrategy[Object]:
    """Objects with few of these parts: one that is wrong in everything shows nothing but a refusal."""

    def joined(found: Object, chosen: list[Object]) -> Object:
        for part in chosen:
            found = {**found, **part}
        return found

    return st.builds(joined, st.fixed_dictionaries(always), st.lists(st.one_of(*parts), max_size=2))


def field(name: str, *values: st.SearchStrategy[Any]) -> st.SearchStrategy[Object]:
    return st.fixed_dictionaries({name: st.one_of(*values)})


capabilities = st.sampled_from([
    {"add": ["NET_RAW"]}, {"drop": ["ALL"], "add": ["NET_RAW"]}, {"drop": []}, {"drop": ["NET_RAW"]},
    {"drop": ["ALL"]},
])  # fmt: skip
CONTEXT_FIELDS = (
    "privileged", "allowPrivilegeEscalation", "runAsUser", "runAsGroup", "runAsNonRoot", "fsGroup",
    "procMount", "supplementalGroups", "seccompProfile", "appArmorProfile", "sysctls", "seLinuxOptions",
    "windowsOptions", "readOnlyRootFilesystem", "fsGroupChangePolicy", "unheardOf",
)  # fmt: skip
context = some(
    *(field(name, odd) for name in CONTEXT_FIELDS), *[field("capabilities", capabilities, odd)] * 4
)
port = some(
    field("hostPort", odd),
    field("protocol", st.sampled_from(["TCP", "UDP"])),
    field("name", st.sampled_from(["http", "x"])),
    containerPort=st.sampled_from([80, 8090, 9090, "8090", {}]),
)
PATHS = ["/models", "/models/", "/", "/tmp", "/data", "/etc/embedding-runtime/models"]
mount = some(
    field("readOnly", odd),
    name=st.sampled_from(["models", "tmp", "mine"]),
    mountPath=st.sampled_from(PATHS),
)
variable = some(
    field("value", odd), name=st.sampled_from(["HF_HUB_OFFLINE", "ALLOWED_MODELS", "MINE", "YOURS"])
)
container = some(
    field("securityContext", context, odd),
    field("ports", st.lists(port, max_size=2)),
    field("volumeMounts", st.lists(mount, max_size=2)),
    field("env", st.lists(variable, max_size=2)),
    field("image", st.just("theirs:1")),
    field("args", st.just(["theirs"])),
    name=st.sampled_from(["server", "server", "side", "side", "prefetch"]),
)
SOURCES = ("hostPath", "emptyDir", "secret", "projected", "nfs", "unheardOf")
volume_of_any_kind = some(
    *(field(kind, odd) for kind in SOURCES), name=st.sampled_from(["models", "tmp", "mine", "more"])
)


def named(each: st.SearchStrategy[Object]) -> st.SearchStrategy[list[Object]]:
    """Lists in which a name is there once, which the schema sees to."""
    return st.lists(each, max_size=2, unique_by=lambda found: found["name"])


POD_FIELDS = (
    "hostNetwork", "hostPID", "hostIPC", "hostUsers", "serviceAccountName", "serviceAccount", "nodeName",
    "automountServiceAccountToken", "nodeSelector", "dnsPolicy",
)  # fmt: skip
spec = some(
    *(field(name, odd) for name in POD_FIELDS),
    *[field("securityContext", context, odd)] * 3,
    *[field("containers", named(container))] * 6,
    *[field("initContainers", named(container))] * 6,
    *[field("volumes", named(volume_of_any_kind))] * 4,
)
LABELS = [*BASE["metadata"]["labels"], "team", f"{GROUP}/x"]
labels = st.dictionaries(st.sampled_from(LABELS), st.just("theirs"), max_size=2)
in_a_container = st.builds(
    lambda part, found: {"spec": {part: [found]}},
    st.sampled_from(["containers", "initContainers"]),
    container,
)
any_template = (
    in_a_container
    | st.fixed_dictionaries({"spec": spec})
    | st.fixed_dictionaries({"spec": spec, "metadata": st.fixed_dictionaries({"labels": labels})})
)


NAMES = (
    "metadata", "labels", "spec", "containers", "initContainers", "volumes", "ports", "volumeMounts", "env",
    "securityContext", "capabilities", "projected", "sources", "livenessProbe", "lifecycle", "httpGet",
    "name",
)  # fmt: skip
anything = st.recursive(
    odd,
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.sampled_from(NAMES), below, max_size=3),
)


@given(st.dictionaries(st.sampled_from(["metadata", "spec"]), anything))
def test_whatever_is_written_is_judged(found: Object) -> None:
    assert all(refusal.path.startswith("spec.podTemplate") for refusal in privileges.refusals(found))


@settings(max_examples=1000, deadline=None)
@given(any_template)
def test_no_template_gets_a_privilege_through(found: Object) -> None:
    if privileges.refusals(found):
        return
    pod = template(samples.model(podTemplate=found))["spec"]
    assert list(ways_up(pod)) == []


@settings(max_examples=1000, deadline=None)
@given(any_template, st.sets(st.sampled_from(privileges.PRIVILEGES)))
def test_whatever_is_allowed_nothing_of_ours_is_overwritten(found: Object, allowed: set[str]) -> None:
    if privileges.refusals(found, allowed):
        return
    made = template(samples.model(**EM.body["spec"], podTemplate=found))
    assert BASE["metadata"]["labels"].items() <= made["metadata"]["labels"].items()
    server, theirs = BASE["spec"]["containers"][0], made["spec"]["containers"][0]
    for field in ("name", "image", "args", "resources"):
        assert theirs[field] == server[field]
    for field in ("ports", "volumeMounts"):
        assert theirs[field][: len(server[field])] == server[field]
    assert all(item in theirs["env"] for item in server["env"] if item["name"] != "MINE")
    assert made["spec"]["volumes"][: len(BASE["spec"]["volumes"])] == BASE["spec"]["volumes"]


def ways_up(pod: Object) -> Iterator[str]:
    """What the restricted Pod Security level, and what we say of tokens and nodes, finds in a pod."""
    for field in ("hostNetwork", "hostPID", "hostIPC", "hostUsers", "automountServiceAccountToken"):
        if pod.get(field) not in (None, False):
            yield field
    yield from {"serviceAccountName", "serviceAccount", "nodeName"} & pod.keys()
    for found in pod["volumes"]:
        if not found.keys() <= {
            "name",
            "persistentVolumeClaim",
            "emptyDir",
            "configMap",
            "secret",
            "projected",
        }:
            yield f"volume {found}"
        if "serviceAccountToken" in str(found.get("projected")):
            yield "token"
    outer = pod["securityContext"]
    for held in [*pod.get("initContainers", []), *pod["containers"]]:
        inner = held["securityContext"]
        effective = {**outer, **inner}
        if effective["runAsNonRoot"] is not True or not effective["runAsUser"] > 0:
            yield "root"
        if effective["seccompProfile"]["type"] not in ("RuntimeDefault", "Localhost"):
            yield "seccomp"
        if inner["allowPrivilegeEscalation"] is not False or inner.get("privileged", False) is not False:
            yield "escalation"
        if "ALL" not in inner["capabilities"]["drop"] or inner["capabilities"].get("add"):
            yield "capabilities"
        known = {
            "runAsNonRoot", "runAsUser", "runAsGroup", "seccompProfile", "appArmorProfile", "capabilities",
            "allowPrivilegeEscalation", "privileged", "readOnlyRootFilesystem", "fsGroup",
            "fsGroupChangePolicy", "supplementalGroups",
        }  # fmt: skip
        yield from effective.keys() - known
        ports = held.get("ports")
        for exposed in ports if isinstance(ports, list) else ():  # the API server refuses what is no list
            if isinstance(exposed, dict) and exposed.get("hostPort") not in (None, 0):
                yield "host port"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("deployment*.yaml")), ids=lambda path: path.stem)
def test_what_the_operator_makes_by_itself_takes_no_privilege(path: Path) -> None:
    made = yaml.safe_load(path.read_text())["spec"]["template"]
    assert privileges.held(made) == set()
    made["spec"]["containers"][0]["securityContext"]["privileged"] = True
    assert privileges.held(made) == {"privileged"}
