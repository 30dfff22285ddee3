"""The pinned versions, read from `e2e/kind-node/versions.env`, which the shell scripts read too."""

from __future__ import annotations

from pathlib import Path

KIND_NODE = Path(__file__).resolve().parents[1] / "kind-node"


def parse(text: str) -> dict[str, str]:
    """Return the `NAME=value` lines of a file that a shell can source."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line)


_PINNED = parse((KIND_NODE / "versions.env").read_text())
KUBERNETES = _PINNED["KUBERNETES_VERSION"]
KIND = _PINNED["KIND_VERSION"]
NODE_IMAGE = _PINNED["NODE_IMAGE"]
BASE_IMAGE = _PINNED["BASE_IMAGE"]
