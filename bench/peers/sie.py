"""Superlinked Inference Engine (sie-server) with PyTorch. `SIE_BINARY` names the program `sie-server`.

It serves the models that it has recipes for: its own recipe of all-MiniLM-L6-v2, pointed at the folder here.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.running import Absent, Peer

NAME = "SIE torch fp32"
_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
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
    recipes = scratch / "sie-models"
    recipes.mkdir()
    # A file of YAML, of which JSON is a part.
    (recipes / "model.yaml").write_text(json.dumps(_recipe(model)))

    def command(port: int) -> Sequence[str]:
        options = {
            "--host": "127.0.0.1",
            "--port": str(port),
            "--device": "cpu",
            "--models-dir": str(recipes),
            "--preload": _MODEL,
        }
        return [binary, "serve", *(part for pair in options.items() for part in pair)]

    return Peer(
        name=NAME,
        build=f"from PyPI: {versions.stdout.strip()}",
        precision="fp32",
        command=command,
        embed="/v1/embeddings",
        body=lambda texts: {"model": _MODEL, "input": list(texts)},
        rows=lambda answer: [entry["embedding"] for entry in answer["data"]],
        ready="/readyz",
        live="/healthz",
        environment={"HF_HOME": str(scratch), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"},
    )


def _recipe(model: Path) -> dict[str, object]:
    """What the package says of the model, at another place."""
    return {
        "sie_id": _MODEL,
        "hf_id": str(model),
        "inputs": {"text": True, "image": False, "audio": False, "video": False},
        "tasks": {
            "encode": {"dense": {"dim": 384}, "sparse": None, "multivector": None},
            "score": None,
            "extract": None,
        },
        "max_sequence_length": 256,
        "profiles": {
            "default": {
                "max_batch_tokens": 16384,
                "compute_precision": "float32",
                "adapter_path": "sie_server.adapters.sentence_transformer:SentenceTransformerDenseAdapter",
                "adapter_options": {
                    "loadtime": {"trust_remote_code": False},
                    "runtime": {"pooling": "mean", "normalize": True},
                },
            }
        },
    }
