"""The life of one kind cluster: found, started again, made, removed.

The truth is in the cluster itself: a mark in the control plane's file system says that it was once complete,
so that a cluster whose making was interrupted is recognised, whoever looks, and made anew.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from e2e.cluster.engine import Engine, containers
from e2e.cluster.process import CommandError, Log, answer, succeeds
from e2e.cluster.state import State, write_atomically

MODELS_MOUNT = "/mirror-models"
MARK = "/kind/embedding-operator-complete"
WORKERS = 2
CREATE_SECONDS = 600
HEALTHY_SECONDS = 240


class Condition(Enum):
    """What is found of a cluster."""

    ABSENT = "absent"
    UNFINISHED = "unfinished, or of another cache folder"
    STOPPED = "stopped"
    UP = "up"


def condition(states: dict[str, str], complete: bool) -> Condition:
    """Return a cluster's condition from its containers' states and from whether it was once complete."""
    if not states:
        return Condition.ABSENT
    if len(states) != 1 + WORKERS or not complete:
        return Condition.UNFINISHED
    return Condition.UP if set(states.values()) == {"running"} else Condition.STOPPED


def configuration(models_folder: str) -> str:
    """Return kind's configuration. The only port is the API server's: a free one of the loopback address."""
    mount = {"hostPath": models_folder, "containerPath": MODELS_MOUNT, "readOnly": True}
    nodes = [{"role": role, "extraMounts": [mount]} for role in ("control-plane", *["worker"] * WORKERS)]
    found = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "featureGates": {"ImageVolume": True},  # on by itself from Kubernetes 1.35
        "nodes": nodes,
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

    def ensure(self, node_image: str, log: Log) -> None:
        """Bring the cluster up, with as little as what is found allows."""
        found = self.condition()
        log.say(f"the cluster is {found.value}")
        if found in (Condition.STOPPED, Condition.UP):
            try:
                if found is Condition.STOPPED:
                    self._start(log)
                self._export_kubeconfig()
                self._await_ready(log)
                return
            except CommandError as error:
                log.say(f"{error}\nit does not become healthy again: making a new one")
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
        write_atomically(file, configuration(str(self.state.served)))
        self._kind(log, "create", "cluster", f"--image={node_image}", f"--config={file}", "--wait=300s")
        self._await_ready(log)
        # kind's own wait is for the control plane only
        log.run(
            [self.engine.program, "exec", self._control_plane(), "sh", "-c", f"echo {node_image} >{MARK}"]
        )

    def _kind(self, log: Log, *arguments: str) -> None:
        common = (f"--name={self.state.cluster}", f"--kubeconfig={self.state.kubeconfig}")
        command = [str(self.state.binaries / "kind"), *arguments, *common]
        log.run(command, timeout=CREATE_SECONDS)

    def _await_ready(self, log: Log) -> None:
        """Wait for the API server, all nodes and all system pods.

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
        for namespace in ("kube-system", "local-path-storage"):
            wait = ("wait", "-n", namespace, "--for=condition=Ready", "pods", "--all", left)
            log.run(self.kubectl_command(*wait))

    def _complete(self) -> bool:
        """Tell whether the mark is there, and the mounted folder is ours and not of another cache.

        Both can be asked of a stopped container as well.
        """
        program, node = self.engine.program, self._control_plane()
        source = '{{range .Mounts}}{{if eq .Destination "' + MODELS_MOUNT + '"}}{{.Source}}{{end}}{{end}}'
        try:
            mounted = answer([program, "inspect", "--format", source, node])
        except CommandError:
            return False
        return mounted == str(self.state.served) and succeeds([program, "cp", f"{node}:{MARK}", "-"])

    def _control_plane(self) -> str:
        return f"{self.state.cluster}-control-plane"

    def _export_kubeconfig(self) -> None:
        common = (f"--name={self.state.cluster}", f"--kubeconfig={self.state.kubeconfig}")
        answer([str(self.state.binaries / "kind"), "export", "kubeconfig", *common])
