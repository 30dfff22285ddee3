"""The life of one kind cluster: found, started again, made, removed.

The truth is in the cluster itself: a mark in the control plane's file system says that it was once complete,
and by which configuration, so that a cluster whose making was interrupted, or that was made otherwise, is
recognised, whoever looks, and made anew.
"""

from __future__ import annotations

import json
import platform
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from e2e.cluster import audit
from e2e.cluster.engine import Engine, containers
from e2e.cluster.process import CommandError, Log, answer, succeeds
from e2e.cluster.state import State, digest, write_atomically

MODELS_MOUNT = "/mirror-models"
MARK = "/kind/embedding-operator-complete"
WORKERS = 2
NFTABLES_SINCE = (5, 13)
"""The kernel that kube-proxy asks for in this mode."""
AUTOSCALER_SECONDS = 5
"""How often an autoscaler looks at what it scales; 15 by itself, which only keeps a test waiting."""
CREATE_SECONDS = 600
HEALTHY_SECONDS = 240
# Not every pod: one that ended in the middle of its work, as a volume's helper may, stays ended.
SYSTEM_IS_UP = (
    ("-n", "kube-system", "pods", "-l", "tier=control-plane", "--for=condition=Ready"),
    ("-n", "kube-system", "daemonsets", "--all", f"--for=jsonpath={{.status.numberReady}}={1 + WORKERS}"),
    ("-n", "kube-system", "deployments", "--all", "--for=condition=Available"),
    ("-n", "local-path-storage", "deployments", "--all", "--for=condition=Available"),
)


class Condition(Enum):
    """What is found of a cluster."""

    ABSENT = "absent"
    UNFINISHED = "unfinished, or of another configuration or cache folder"
    STOPPED = "stopped"
    UP = "up"


def condition(states: dict[str, str], complete: bool) -> Condition:
    """Return a cluster's condition from its containers' states and from whether it was once complete."""
    if not states:
        return Condition.ABSENT
    if len(states) != 1 + WORKERS or not complete:
        return Condition.UNFINISHED
    return Condition.UP if set(states.values()) == {"running"} else Condition.STOPPED


def proxy_mode(system: str, kernel: str) -> str:
    """Return kube-proxy's mode.

    With nftables a node drops what is sent to an address of the services' range that it knows no Service of
    (yet): the client's kernel sends it again. With iptables it leaves the cluster, and whatever proxy or host
    takes it there answers in the Service's place. Elsewhere than on Linux the engine's own machine is recent.
    """
    version = re.match(r"(\d+)\.(\d+)", kernel)
    old = system == "Linux" and (not version or (int(version[1]), int(version[2])) < NFTABLES_SINCE)
    return "iptables" if old else "nftables"


def configuration(models_folder: str, audit_folder: str, proxy: str) -> str:
    """Return kind's configuration. The only port is the API server's: a free one of the loopback address."""
    mount = {"hostPath": models_folder, "containerPath": MODELS_MOUNT, "readOnly": True}
    policy = {"hostPath": audit_folder, "containerPath": audit.FOLDER, "readOnly": True}
    nodes = [{"role": "worker", "extraMounts": [mount]}] * WORKERS
    looks = {"horizontal-pod-autoscaler-sync-period": f"{AUTOSCALER_SECONDS}s"}
    kubeadm = {**audit.kubeadm_patch(), "controllerManager": {"extraArgs": looks}}
    first = {
        "role": "control-plane",
        "extraMounts": [mount, policy],
        "kubeadmConfigPatches": [json.dumps(kubeadm, sort_keys=True)],
    }
    found = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "featureGates": {"ImageVolume": True},  # on by itself from Kubernetes 1.35
        "networking": {"kubeProxyMode": proxy},
        "nodes": [first, *nodes],
    }
    return json.dumps(found, indent=1)


@dataclass(frozen=True)
class Cluster:
    """One kind cluster, by the name that its state has."""

    state: State
    engine: Engine

    def condition(self) -> Condition:
        """Look at the containers."""
        states = containers(self.engine.program, self.state.cluster)
        return condition(states, bool(states) and self._complete())

    def usable(self) -> bool:
        """Tell whether what is there is the cluster that is wanted, running or stopped."""
        return self.condition() in (Condition.UP, Condition.STOPPED)

    def nodes(self) -> list[str]:
        """Return the names of the node containers."""
        return sorted(containers(self.engine.program, self.state.cluster))

    def workers(self) -> list[str]:
        """Return the nodes that pods are scheduled on."""
        return [node for node in self.nodes() if node != self._control_plane()]

    def kubectl(self, *arguments: str, timeout: float = 60.0, stdin: str | None = None) -> str:
        """Return what kubectl prints.

        Raises:
            CommandError: with what it said.
        """
        return answer(self.kubectl_command(*arguments), timeout, stdin)

    def kubectl_command(self, *arguments: str) -> list[str]:
        """Return a kubectl command line for this cluster."""
        return [str(self.state.binaries / "kubectl"), f"--kubeconfig={self.state.kubeconfig}", *arguments]

    def healthy(self) -> bool:
        """Tell whether the cluster is up: every container, the API server, every node."""
        if self.condition() is not Condition.UP or not (self.state.binaries / "kubectl").exists():
            return False
        try:
            self._export_kubeconfig()
            ready = self.kubectl(
                "get", "nodes", "-o", "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"
            )
        except CommandError:
            return False
        return ready.split() == ["True"] * (1 + WORKERS)

    def revive(self, log: Log) -> None:
        """Have the cluster that is there up again; one that does not become healthy is removed.

        What a machine's sudden end left of a cluster may never come back, and is found out by trying only.
        """
        found = self.condition()
        log.say(f"the cluster is {found.value}")
        try:
            if found is Condition.STOPPED:
                self._start(log)
            self._export_kubeconfig()
            self._await_ready(log)
        except CommandError as error:
            log.say(f"{error}\nit does not become healthy again: it is removed, and a new one made")
            self.delete(log)

    def make(self, node_image: str, log: Log) -> None:
        """Make the cluster, in the place of whatever is there."""
        self.delete(log)
        self._create(node_image, log)

    def delete(self, log: Log) -> None:
        """Remove the cluster, however much of it there is."""
        if nodes := self.nodes():
            log.run([self.engine.program, "rm", "--force", "--volumes", *nodes])

    def _start(self, log: Log) -> None:
        """Start the stopped nodes and wait for a sign of life of each: what the API server says is old."""
        begun = datetime.now(UTC)
        log.run([self.engine.program, "start", *self.nodes()])
        self._export_kubeconfig()
        path = "jsonpath={range .items[*]}{.spec.renewTime}{'\\n'}{end}"
        deadline = time.monotonic() + HEALTHY_SECONDS
        while True:
            with suppress(CommandError):
                renewed = self.kubectl("get", "leases", "-n", "kube-node-lease", "-o", path).splitlines()
                if len(renewed) > WORKERS and all(
                    datetime.fromisoformat(moment) > begun for moment in renewed
                ):
                    return
            if time.monotonic() > deadline:
                raise CommandError(f"the nodes give no sign of life {HEALTHY_SECONDS} s after their start")
            log.pause(1.0)

    def _create(self, node_image: str, log: Log) -> None:
        self.state.served.mkdir(parents=True, exist_ok=True)
        file = self.state.folder / "kind.json"  # JSON is YAML
        write_atomically(self._audit_folder / audit.POLICY_FILE, audit.policy())
        write_atomically(file, self._configuration())
        self._kind(log, "create", "cluster", f"--image={node_image}", f"--config={file}", "--wait=300s")
        self._await_ready(log)
        # kind's own wait is for the control plane only
        made = f"mkdir -p {MARK} && echo {node_image} >{self._mark()}"
        log.run([self.engine.program, "exec", self._control_plane(), "sh", "-c", made])

    def _kind(self, log: Log, *arguments: str) -> None:
        common = (f"--name={self.state.cluster}", f"--kubeconfig={self.state.kubeconfig}")
        command = [str(self.state.binaries / "kind"), *arguments, *common]
        log.run(command, timeout=CREATE_SECONDS)

    def _await_ready(self, log: Log) -> None:
        """Wait for the API server, all nodes and what the system runs on them.

        Raises:
            CommandError: they are not ready within four minutes.
        """
        deadline = time.monotonic() + HEALTHY_SECONDS
        while not succeeds(self.kubectl_command("get", "--raw=/readyz", "--request-timeout=5s")):
            if time.monotonic() > deadline:
                raise CommandError(f"the API server is not ready after {HEALTHY_SECONDS} s")
            log.pause(1.0)
        left = f"--timeout={max(30, deadline - time.monotonic()):.0f}s"
        log.run(self.kubectl_command("wait", "--for=condition=Ready", "nodes", "--all", left))
        for wait in SYSTEM_IS_UP:
            log.run(self.kubectl_command("wait", *wait, left))

    def _complete(self) -> bool:
        """Tell whether the mark of this configuration is there, which a stopped container can be asked too.

        The configuration names the mounted folder: a cluster of another cache folder has another mark.
        """
        return succeeds([self.engine.program, "cp", f"{self._control_plane()}:{self._mark()}", "-"])

    def _mark(self) -> str:
        return f"{MARK}/{digest(self._configuration(), audit.policy())}"

    def _configuration(self) -> str:
        proxy = proxy_mode(platform.system(), platform.release())
        return configuration(str(self.state.served), str(self._audit_folder), proxy)

    @property
    def _audit_folder(self) -> Path:
        return self.state.folder / "audit"

    def _control_plane(self) -> str:
        return f"{self.state.cluster}-control-plane"

    def _export_kubeconfig(self) -> None:
        common = (f"--name={self.state.cluster}", f"--kubeconfig={self.state.kubeconfig}")
        answer([str(self.state.binaries / "kind"), "export", "kubeconfig", *common])
