"""text-embeddings-inference with its ONNX Runtime backend.

`TEI_BINARY` names the program `text-embeddings-router`, `TEI_BUILD` says where it came from. It loads the
same ONNX Runtime library as ours, so what differs is the server around it. `--max-client-batch-size` and
`--max-concurrent-requests` are raised from 32 and 512, which refuse the requests of 256 texts.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import onnxruntime

from bench.running import Absent, Peer

NAME = "text-embeddings-inference fp32"


def peer(model: Path, _scratch: Path) -> Peer | Absent:
    """The server of a model's folder."""
    binary = os.environ.get("TEI_BINARY", "")
    if not binary:
        return Absent(NAME, "TEI_BINARY is not set")
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    library = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.1.*"))

    def command(port: int) -> Sequence[str]:
        options = {
            "--model-id": str(model),
            "--hostname": "127.0.0.1",
            "--port": str(port),
            "--prometheus-port": "0",
            "--max-client-batch-size": "256",
            "--max-concurrent-requests": "4096",
        }
        return [binary, "--auto-truncate", *(part for option in options.items() for part in option)]

    return Peer(
        name=NAME,
        build=f"{version}; {os.environ.get('TEI_BUILD', 'origin not told')}; ONNX Runtime "
        f"{onnxruntime.__version__} as ours",
        precision="fp32",
        command=command,
        embed="/embed",
        body=lambda texts: {"inputs": list(texts)},
        rows=lambda answer: list(answer),
        ready="/health",
        live="/health",
        environment={"ORT_DYLIB_PATH": str(library)},
    )
