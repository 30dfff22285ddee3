"""Infinity with its PyTorch engine. `INFINITY_BINARY` names the program `infinity_emb`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.running import Absent, Peer

NAMES = {"float32": "Infinity torch fp32", "bfloat16": "Infinity torch bf16"}
_VERSIONS = (
    "from importlib.metadata import version; print(*(f'{n} {version(n)}' for n in ('infinity-emb', 'torch')))"
)


def peer(model: Path, scratch: Path, dtype: str) -> Peer | Absent:
    """The server of a model's folder; dtype is `float32` or `bfloat16`."""
    binary = os.environ.get("INFINITY_BINARY", "")
    if not binary:
        return Absent(NAMES[dtype], "INFINITY_BINARY is not set")
    python = str(Path(binary).with_name("python"))
    versions = subprocess.run([python, "-c", _VERSIONS], capture_output=True, text=True, check=True)
    served = "bench"

    def command(port: int) -> Sequence[str]:
        options = {
            "--model-id": str(model),
            "--served-model-name": served,
            "--engine": "torch",
            "--device": "cpu",
            "--dtype": dtype,
            "--batch-size": "32",
            "--host": "127.0.0.1",
            "--port": str(port),
        }
        return [binary, "v2", "--no-bettertransformer", *(part for pair in options.items() for part in pair)]

    return Peer(
        name=NAMES[dtype],
        build=f"from PyPI: {versions.stdout.strip()}",
        precision={"float32": "fp32", "bfloat16": "bf16"}[dtype],
        command=command,
        embed="/embeddings",
        body=lambda texts: {"model": served, "input": list(texts)},
        rows=lambda answer: [entry["embedding"] for entry in answer["data"]],
        ready="/health",
        live="/health",
        environment={
            "HF_HOME": str(scratch),
            "HF_HUB_OFFLINE": "1",
            "DO_NOT_TRACK": "1",
            "INFINITY_ANONYMOUS_USAGE_STATS": "0",
        },
    )
