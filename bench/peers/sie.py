"""Superlinked's inference engine, one worker without a gateway. `SIE_BINARY` names the program `sie-server`.

It is asked through `/v1/embeddings`, with JSON as the others are. Its threads are set to the machine's cores,
since by itself it takes half of them. A model's folder is told in a file of its own format: no hub is asked.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.running import Absent, Peer

NAME = "sie-server torch fp32"
_SERVED = "bench/model"
_VERSIONS = (
    "from importlib.metadata import version; print(*(f'{n} {version(n)}' for n in ('sie-server', 'torch')))"
)


def peer(model: Path, scratch: Path) -> Peer | Absent:
    """The server of a model's folder."""
    binary = os.environ.get("SIE_BINARY", "")
    if not binary:
        return Absent(NAME, "SIE_BINARY is not set")
    python = str(Path(binary).with_name("python"))
    versions = subprocess.run([python, "-c", _VERSIONS], capture_output=True, text=True, check=True)
    home = scratch / "sie"
    home.mkdir(exist_ok=True)
    (home / "bench__model.yaml").write_text(json.dumps(_entry(model)))  # JSON is YAML

    def command(port: int) -> Sequence[str]:
        options = {
            "--models-dir": str(home),
            "--models": _SERVED,
            "--preload": _SERVED,
            "--device": "cpu",
            "--host": "127.0.0.1",
            "--port": str(port),
            "--log-level": "warning",
        }
        return [binary, "serve", *(part for option in options.items() for part in option)]

    return Peer(
        name=NAME,
        build=f"from PyPI: {versions.stdout.strip()}",
        precision="fp32",
        command=command,
        embed="/v1/embeddings",
        body=lambda texts: {"model": _SERVED, "input": list(texts)},
        rows=lambda answer: [entry["embedding"] for entry in answer["data"]],
        ready="/readyz",
        live="/healthz",
        environment={
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "1",
            "DO_NOT_TRACK": "1",
            "SIE_TELEMETRY_DISABLED": "1",
            "SIE_TORCH_NUM_THREADS": str(len(os.sched_getaffinity(0))),
        },
    )


def _entry(model: Path) -> object:
    """As the package's own entry for all-MiniLM-L6-v2, with a folder instead of a hub's name."""
    width = json.loads((model / "config.json").read_text())["hidden_size"]
    adapter = "sie_server.adapters.sentence_transformer:SentenceTransformerDenseAdapter"
    return {
        "sie_id": _SERVED,
        "weights_path": str(model),
        "inputs": {"text": True},
        "tasks": {"encode": {"dense": {"dim": width}}},
        "max_sequence_length": 256,
        "profiles": {
            "default": {
                "max_batch_tokens": 16384,
                "adapter_path": adapter,
                "adapter_options": {
                    "loadtime": {"trust_remote_code": False},
                    "runtime": {"pooling": "mean", "normalize": True},
                },
            }
        },
    }
