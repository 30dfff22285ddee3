"""The servers that are measured side by side: ours, and those that a user might pick instead.

Each module makes a `Peer` out of what is installed here, or an `Absent` that says what is missing. Where a
peer's program is found says an environment variable; `README.md` has how to install them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.peers import infinity, ours, sie, tei
from bench.raw import Raw
from bench.running import Absent, Peer, Running

KINDS: dict[str, Callable[[Path, Path], Peer | Absent]] = {
    "ours": lambda model, scratch: ours.peer(model, scratch, "fp32"),
    "before": ours.before,
    "before-bf16": lambda model, scratch: ours.before(model, scratch, "bf16", "openvino"),
    "ours-openvino": lambda model, scratch: ours.peer(model, scratch, "fp32", provider="openvino"),
    "ours-bf16": lambda model, scratch: ours.peer(model, scratch, "bf16", provider="openvino"),
    "ours-binary": lambda model, scratch: ours.peer(model, scratch, "fp32", binary=True),
    "tei": tei.peer,
    "infinity": lambda model, scratch: infinity.peer(model, scratch, "float32"),
    "infinity-bf16": lambda model, scratch: infinity.peer(model, scratch, "bfloat16"),
    "sie": sie.peer,
    "ovms": lambda _model, _scratch: Absent(
        "OpenVINO Model Server", "it comes as an image or as an archive, and neither could be had"
    ),
}
"""What can be named on the command line; each takes the model's folder and one for files of its own."""


def agreement(server: Running, raw: Raw, texts: list[str]) -> float:
    """The worst cosine of the server's vectors with the raw engine's, mean-pooled: all do the same work."""
    worst = 1.0
    for text, row in zip(texts, server.ask(texts), strict=True):
        ours_, theirs = raw.token_vectors(text).mean(axis=0), np.asarray(row, dtype=np.float32)
        worst = min(worst, float(ours_ @ theirs / np.linalg.norm(ours_) / np.linalg.norm(theirs)))
    return worst
