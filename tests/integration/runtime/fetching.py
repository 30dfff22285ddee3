"""`prefetch` against a hub of a test, and what it told."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.runtime.odd_hub import OddHub
from tests.integration.runtime.server import EMBEDDER, environment

RUNTIME = [sys.executable, "-m", "embedding_runtime"]


@dataclass
class Told:
    """What a command printed, and the result of its only model."""

    code: int
    output: str
    result: dict[str, Any]

    @property
    def message(self) -> str:
        """What is told of the failure."""
        return str(self.result["error"]["message"])


def variables_for(home: Path, hub: OddHub, **variables: str) -> dict[str, str]:
    """The environment of a client of the hub that soon gives up."""
    base = environment(
        home,
        HF_ENDPOINT=hub.endpoint,
        HF_HUB_OFFLINE="0",
        HF_HUB_DOWNLOAD_TIMEOUT="1",
        PREFETCH_RETRY_SECONDS="0",
    )
    return base | variables


def prefetch(home: Path, hub: OddHub, **variables: str) -> Told:
    """Fetch the embedding model."""
    done = subprocess.run(
        [*RUNTIME, "prefetch", EMBEDDER, "--progress", "json"],
        env=variables_for(home, hub, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout, done.stderr
    return Told(done.returncode, done.stdout + done.stderr, json.loads(done.stdout.splitlines()[-1]))
