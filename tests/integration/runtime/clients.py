"""The official clients of the dialects, in an environment of their own, and scripts that run in it."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[3]
_LOCK = _ROOT / "requirements/clients.txt"
_INSTALL_SECONDS, _RUN_SECONDS = 900, 100

# What a script leaves in its variables, as JSON; or the message of what it ends with.
_RUNNER = """
import json, sys
names = {}
try:
    exec(compile(sys.stdin.read(), "example", "exec"), names)
except Exception as error:
    names = {"error": f"{type(error).__name__}: {error}"}
def plain(value):
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError
kept = {}
for name, value in names.items():
    try:
        kept[name] = json.loads(json.dumps(value, default=plain))
    except (TypeError, ValueError):
        pass
print(json.dumps(kept))
"""


@cache
def python() -> Path:
    """The interpreter of the clients' environment, which is made where it is not there yet."""
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedding-operator"
    key = hashlib.sha256(_LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cached / f"clients-{key}"
    cached.mkdir(parents=True, exist_ok=True)
    with (cached / "clients.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # several test runs may want it at once
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=_INSTALL_SECONDS)
            pip: list[str | Path] = [
                folder / "bin/python",
                "-m",
                "pip",
                "install",
                "-q",
                "--disable-pip-version-check",
            ]
            subprocess.run([*pip, "--require-hashes", "-r", _LOCK], check=True, timeout=_INSTALL_SECONDS)
            (folder / "complete").touch()
    return folder / "bin/python"


def run(script: str, home: Path) -> dict[str, Any]:
    """The variables of a script after it has run; of one that fails `error`."""
    home.mkdir(exist_ok=True)
    told = subprocess.run(
        [python(), "-c", _RUNNER],
        input=script,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "HAYSTACK_TELEMETRY_ENABLED": "False"},
        capture_output=True,
        text=True,
        timeout=_RUN_SECONDS,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    return found
