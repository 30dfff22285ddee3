"""Decides what to use and what to do on a machine, from what `host.py` found; looks at nothing itself."""

from __future__ import annotations

from dataclasses import dataclass

from e2e.cluster.host import Daemon, Host

GIB = 2**30
LEAST_MEMORY = 3 * GIB
SHIM = "shim"  # the name of our own OCI runtime in the daemon's configuration
DOCKER_PACKAGES = ("docker.io", "containerd", "runc", "iptables", "ca-certificates")
SOURCE_PACKAGES = ("debootstrap",)


class RefusedError(Exception):
    """This machine lacks something that may not be installed here; the message says what to do."""


@dataclass(frozen=True)
class Cached:
    """What earlier runs left."""

    cluster: bool
    node_image: bool
    programs: bool
    base_image: bool
    models: bool


@dataclass(frozen=True)
class Plan:
    """How to have a container engine; `start` is empty, `systemd`, or `own` (the daemons by ourselves)."""

    engine: str
    packages: tuple[str, ...]
    start: str
    shim: bool


def decide(host: Host) -> Plan:
    """Return the container engine to use and what it takes to have it.

    Raises:
        RefusedError: with what to install or to change.
    """
    if host.memory < LEAST_MEMORY:
        raise RefusedError(
            f"the cluster needs {LEAST_MEMORY // GIB} GiB of memory; this machine has {host.memory / GIB:.1f}"
        )
    if host.docker is Daemon.RUNNING:
        if not host.sys_resource and host.docker_runtime != SHIM:
            raise RefusedError(
                "this machine may not grant CAP_SYS_RESOURCE, which kind's containers ask for, and the\n"
                "running docker daemon is not ours to change. Stop it and run this again: it is then\n"
                "started with a runtime that copes."
            )
        return Plan("docker", (), "", shim=False)
    if host.podman:
        return Plan("podman", (), "", shim=False)
    if host.docker is Daemon.DENIED:
        raise RefusedError(
            "docker runs, but not for this user: add yourself to the group docker, or run this as root."
        )
    return _own_docker(host)


def _own_docker(host: Host) -> Plan:
    installed = host.docker is Daemon.STOPPED
    if not host.root:
        what = "start docker (sudo systemctl start docker)" if installed else "install docker or podman"
        raise RefusedError(f"no container engine runs here: {what}, then run this again.")
    if not installed and not host.apt:
        raise RefusedError("no container engine is installed: install docker or podman, then run this again.")
    start = "systemd" if host.systemd else "own"
    packages = () if installed else (*DOCKER_PACKAGES, *SOURCE_PACKAGES)
    return Plan("docker", packages, start, shim=start == "own" and not host.sys_resource)


def source_refusal(host: Host) -> str:
    """Return why no node image can be built from source here, empty when it can."""
    if host.system != "Linux":
        return "images can be built from source on Linux only"
    if not host.root:
        return "images can be built from source by root only (debootstrap)"
    if not host.apt:
        return "images can be built from source on Debian and Ubuntu only"
    return ""


def bytes_needed(cached: Cached) -> int:
    """Return how much free disk the rest will take, as measured, when nothing can be pulled."""
    total = 1 * GIB
    if not cached.cluster:
        total += 5 * GIB  # three nodes' volumes
        if not cached.node_image:
            total += 2 * GIB
            total += 0 if cached.programs else 6 * GIB  # nearly all of it Go's own caches
    total += 0 if cached.base_image else 2 * GIB
    total += 0 if cached.models else 1 * GIB
    return total


def check_disk(free: int, cached: Cached) -> None:
    """Refuse to begin what cannot end well.

    Raises:
        RefusedError: there is less free disk than what is missing will take.
    """
    needed = bytes_needed(cached)
    if free < needed:
        raise RefusedError(
            f"not enough disk: what is missing takes up to {needed / GIB:.0f} GiB, "
            f"{free / GIB:.1f} GiB are free.\n"
            "Free some (docker system prune, go clean -cache), or set XDG_CACHE_HOME to a larger disk."
        )


def announce(host: Host, plan: Plan, cached: Cached) -> list[str]:
    """Return in a few lines what is going to happen."""
    engine = {
        "systemd": "start docker with systemd",
        "own": "start containerd and dockerd (there is no init system)",
    }
    lines = [f"install with apt: {' '.join(plan.packages)}"] if plan.packages else []
    lines.append(engine.get(plan.start, f"use the running {plan.engine}"))
    if plan.shim:
        lines[-1] += ", with an OCI runtime that leaves out what this machine may not grant"
    if cached.cluster:
        lines.append("use the cluster that is there")
    elif cached.node_image:
        lines.append("make a kind cluster from the node image that is there")
    else:
        source = "linking cached programs" if cached.programs else "from source, about 10 minutes on 2 cores"
        lines.append(f"make a kind cluster: node image from a registry, or {source} where none answers")
    lines.append("build the two product images, load them into the nodes, install the CRD and the operator")
    if not host.hub:
        lines.append(
            "run a hub mirror in the cluster"
            + ("" if cached.models else ", with models from Python packages")
        )
    return lines
