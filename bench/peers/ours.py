"""This project's server with the settings that it has by itself, from this checkout or from another.

`BENCH_BEFORE` names a second checkout, to be measured beside this one: before a change, and after it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.running import Absent, Peer

HERE = Path(__file__).resolve().parents[2]
MODEL = "bench/model"
POSITIONS = 512
"""Longer than the model's own limit of 256, so that lengths can be scaled up to what the graph takes."""


def before(model: Path, scratch: Path, precision: str = "fp32", provider: str = "cpu") -> Peer | Absent:
    """The server of the other checkout."""
    other = os.environ.get("BENCH_BEFORE", "")
    if not other:
        return Absent(f"before {precision}", "BENCH_BEFORE is not set")
    return peer(model, scratch, precision, provider, checkout=Path(other).resolve())


def peer(
    model: Path,
    scratch: Path,
    precision: str,
    provider: str = "cpu",
    *,
    binary: bool = False,
    checkout: Path = HERE,
) -> Peer:
    """The server of a model's folder, its caches in `scratch`."""
    name = "ours" if checkout == HERE else "before"
    name += (" OpenVINO" if provider == "openvino" else "") + (" binary" if binary else "") + f" {precision}"
    home = scratch / name.replace(" ", "-")
    home.mkdir(exist_ok=True)
    config = home / "models.json"
    entry = {"id": MODEL, "path": str(model), "max_length": POSITIONS}
    config.write_text(json.dumps({"models": [entry]}))
    environment = {
        "MODELS_CONFIG": str(config),
        "DEFAULT_EMBEDDING_MODEL": MODEL,
        "DEFAULT_RERANKING_MODEL": "",
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "PREPARED_CACHE_DIR": str(home / "prepared"),
        "ORT_EXECUTION_PROVIDER": provider,
        "API_HOST": "127.0.0.1",
        "API_WORKERS": "4",
        "PYTHONPATH": str(checkout / "runtime"),
        "DRAIN_DELAY_SECS": "0",
    }
    if precision != "fp32":
        environment["MODEL_PRECISION"] = precision

    def command(port: int) -> list[str]:
        return ["env", f"API_PORT={port}", sys.executable, "-m", "embedding_runtime", "serve"]

    return Peer(
        name=name,
        build=f"{'this checkout' if checkout == HERE else 'another checkout'}, {commit(checkout)}",
        precision=precision,
        command=command,
        embed="/embed",
        body=lambda texts: {"input": list(texts)},
        rows=lambda answer: list(answer["embeddings"]),
        ready="/health/ready",
        live="/health/live",
        environment=environment,
        headers=_accept(binary=binary),
    )


def _accept(*, binary: bool) -> Mapping[str, str]:
    return {"Accept": "application/octet-stream"} if binary else {}


def commit(checkout: Path = HERE) -> str:
    """The commit that is checked out, and whether files of the runtime differ from it."""
    git = ["git", "-C", str(checkout)]
    short = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    dirty = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=no", "--", ":/runtime"],
        capture_output=True,
        text=True,
        check=True,
    )
    return short.stdout.strip() + (" with changes" if dirty.stdout.strip() else "")
