"""Finds out what this machine has. Changes nothing and decides nothing (`plan.py` does)."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from e2e.cluster.process import CommandError, answer, succeeds

REACH_SECONDS = 3.0
HUB = "https://huggingface.co/api/models/sentence-transformers/all-MiniLM-L6-v2"
KUBERNETES_DOWNLOADS = "https://dl.k8s.io/release/stable.txt"
SYS_RESOURCE_BIT = 24


class Daemon(Enum):
    """How far one gets with docker on this machine."""

    RUNNING = "running"
    STOPPED = "installed, not running"
    DENIED = "running, but not for this user"
    ABSENT = "not installed"


@dataclass(frozen=True)
class Host:
    """What a machine has; sizes in bytes, versions as (major, minor), None when the program is not there."""

    system: str
    machine: str
    distribution: str
    root: bool
    apt: bool
    systemd: bool
    docker: Daemon
    docker_runtime: str
    buildx: bool
    podman: bool
    sys_resource: bool
    memory: int
    free: int
    hub: bool
    downloads: bool
    kind: tuple[int, int] | None
    kubectl: tuple[int, int] | None
    go: bool

    def summary(self) -> str:
        """Return one line for people."""
        engine = f"docker {self.docker.value}" + (", podman" if self.podman else "")
        hub = "the model hub answers" if self.hub else "no model hub"
        return (
            f"{self.distribution} {self.machine}, {'root' if self.root else 'not root'}, "
            f"{os.cpu_count()} cores, {self.memory / 2**30:.0f} GiB memory, "
            f"{self.free / 2**30:.0f} GiB free; {engine}; {hub}"
        )


def look(cache: Path) -> Host:
    """Return what there is, in a few seconds."""
    system = platform.system()
    release = _os_release()
    docker, runtime = _docker()
    return Host(
        system=system,
        machine=platform.machine(),
        distribution=release.get("PRETTY_NAME", system),
        root=os.geteuid() == 0,
        apt=bool(shutil.which("apt-get"))
        and {release.get("ID"), release.get("ID_LIKE")} & {"debian", "ubuntu"} != set(),
        systemd=Path("/run/systemd/system").is_dir(),
        docker=docker,
        docker_runtime=runtime,
        buildx=docker is not Daemon.ABSENT and succeeds(["docker", "buildx", "version"]),
        podman=succeeds(["podman", "info"]),
        sys_resource=_sys_resource(),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        free=min(free_bytes(cache), free_bytes(Path("/var/lib/docker")) if system == "Linux" else 1 << 60),
        hub=reachable(HUB),
        downloads=reachable(KUBERNETES_DOWNLOADS),
        kind=_version(["kind", "version"]),
        kubectl=_version(["kubectl", "version", "--client"]),
        go=succeeds(["go", "version"]),
    )


def free_bytes(path: Path) -> int:
    """Return what can still be written at a path, which need not exist yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def reachable(url: str, timeout: float = REACH_SECONDS) -> bool:
    """Tell whether a server answers below 500 within `timeout` seconds."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            return bool(response.status < 500)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, ValueError):
        return False


def _os_release() -> dict[str, str]:
    path = Path("/etc/os-release")
    lines = path.read_text().splitlines() if path.exists() else []
    return {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}


def _docker() -> tuple[Daemon, str]:
    """Return the daemon's state and its default runtime."""
    try:
        information = json.loads(answer(["docker", "info", "--format", "{{json .}}"]))
    except CommandError as error:
        if "permission denied" in str(error).lower():
            return Daemon.DENIED, ""
        return (Daemon.STOPPED if shutil.which("dockerd") else Daemon.ABSENT), ""
    except ValueError:
        return Daemon.STOPPED, ""
    if not information.get("ServerVersion"):
        denied = "permission denied" in str(information.get("ServerErrors")).lower()
        return (Daemon.DENIED if denied else Daemon.STOPPED if shutil.which("dockerd") else Daemon.ABSENT), ""
    return Daemon.RUNNING, information.get("DefaultRuntime", "")


def _sys_resource() -> bool:
    """Tell whether containers can be given CAP_SYS_RESOURCE: kind asks for every capability."""
    status = Path("/proc/self/status")
    if not status.exists():
        return True
    bounding = re.search(r"^CapBnd:\s*([0-9a-f]+)", status.read_text(), re.MULTILINE)
    return not bounding or bool(int(bounding[1], 16) >> SYS_RESOURCE_BIT & 1)


def _version(command: list[str]) -> tuple[int, int] | None:
    try:
        found = re.search(r"v(\d+)\.(\d+)", answer(command))
    except CommandError:
        return None
    return (int(found[1]), int(found[2])) if found else None
