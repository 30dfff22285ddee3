"""kstatus, by which Flux judge, as a program: built from its Go module where a test asks for it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from e2e.cluster import go_toolchain
from e2e.cluster.state import cache_root, digest
from e2e.cluster.versions import KIND_NODE

FOLDER = Path(__file__).parent
BUILD_SECONDS = 600
JUDGE_SECONDS = 30


class Judgement(NamedTuple):
    """What kstatus says of an object: InProgress, Current, Failed or Terminating, and why."""

    status: str
    message: str


def judge(program: Path, bodies: Iterable[Mapping[str, Any]]) -> list[Judgement]:
    """Return what kstatus says of each of these objects."""
    text = "\n".join(json.dumps(body) for body in bodies)
    done = subprocess.run(
        [program], input=text, capture_output=True, text=True, timeout=JUDGE_SECONDS, check=True
    )
    return [Judgement(**json.loads(line)) for line in done.stdout.splitlines()]


def program() -> Path:
    """Return the program, built now where no earlier run of this version has left it (half a minute)."""
    sources = [FOLDER / name for name in ("main.go", "go.mod", "go.sum")]
    folder = cache_root() / f"kstatus-{digest(*sources, platform.machine())}"
    if not (folder / "kstatus").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".kstatus-") as scratch:
            _build(Path(scratch, "kstatus"))
            folder.mkdir(exist_ok=True)
            Path(scratch, "kstatus").replace(folder / "kstatus")
    return folder / "kstatus"


def _build(target: Path) -> None:
    flags = {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false"}
    command: list[str | Path] = [_go(), "build", "-ldflags", "-s -w", "-o", target, "."]
    subprocess.run(command, cwd=FOLDER, env=os.environ | flags, timeout=BUILD_SECONDS, check=True)


def _go() -> Path:
    """Return this machine's Go, or the one of the cluster's own build where it has none."""
    if there := shutil.which("go"):
        return Path(there)
    toolchain = cache_root() / f"go-{digest(KIND_NODE / 'go-toolchain.txt', platform.machine())}"
    if not toolchain.exists():
        go_toolchain.lay_out(toolchain)
    return toolchain / "go/bin/go"
