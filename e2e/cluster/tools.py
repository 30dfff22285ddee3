"""`kind` and `kubectl`: the machine's own where they fit, else official downloads, else from source."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import urllib.request
from pathlib import Path

from e2e.cluster.host import Host
from e2e.cluster.process import CommandError, Log
from e2e.cluster.versions import KIND, KUBERNETES

DOWNLOAD_SECONDS = 60.0
KIND_URL = "https://kind.sigs.k8s.io/dl/{version}/kind-{system}-{machine}"
KUBECTL_URL = "https://dl.k8s.io/release/{version}/bin/{system}/{machine}/kubectl"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def fitting(host: Host) -> bool:
    """Tell whether the machine's own kind and kubectl can be used.

    kind must be as new as the node image's; kubectl may be one minor version away from the API server.
    """
    minor = _pair(KUBERNETES)[1]
    kind_fits = host.kind is not None and host.kind[0] == 0 and host.kind >= _pair(KIND)
    kubectl_fits = host.kubectl is not None and host.kubectl[0] == 1 and abs(host.kubectl[1] - minor) <= 1
    return kind_fits and kubectl_fits


def on_path() -> dict[str, Path]:
    """Return the machine's own programs."""
    return {name: Path(shutil.which(name) or name) for name in ("kind", "kubectl")}


def downloaded(root: Path) -> dict[str, Path]:
    """Return where official downloads are kept."""
    return {"kind": root / f"kind-{KIND}" / "kind", "kubectl": root / f"kubectl-{KUBERNETES}" / "kubectl"}


def download(root: Path, log: Log) -> None:
    """Download both official programs, each checked against the digest that is published beside it."""
    names = {
        "system": platform.system().lower(),
        "machine": MACHINES.get(platform.machine(), platform.machine()),
    }
    places = downloaded(root)
    fetch(KIND_URL.format(version=KIND, **names), ".sha256sum", places["kind"], log)
    fetch(KUBECTL_URL.format(version=KUBERNETES, **names), ".sha256", places["kubectl"], log)


def fetch(url: str, digest_suffix: str, target: Path, log: Log) -> None:
    """Download one program unless it is there; `target` appears only complete, checked and executable.

    Raises:
        CommandError: it is not what its published SHA-256 says.
        OSError: the server cannot be reached or does not have it.
    """
    if target.exists():
        return
    log.say(f"downloading {url}")
    wanted = _get(url + digest_suffix).split()[0].decode()
    data = _get(url)
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        raise CommandError(f"{url}: SHA-256 is {found}, published is {wanted}")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    fresh.write_bytes(data)
    fresh.chmod(0o755)
    fresh.replace(target)


def link(programs: dict[str, Path], folder: Path) -> None:
    """Make `folder` hold links to the programs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in programs.items():
        fresh = folder / f".{name}.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(program.absolute())
        fresh.replace(folder / name)


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=DOWNLOAD_SECONDS) as response:
        data: bytes = response.read()
    return data


def _pair(version: str) -> tuple[int, int]:
    major, minor = re.findall(r"\d+", version)[:2]
    return int(major), int(minor)
