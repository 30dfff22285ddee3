"""HF_HUB_OFFLINE=1 touches no network at all: shown where there is none, and every attempt is counted."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.runtime.server import EMBEDDER, RERANKER


def _isolated(home: Path, **variables: str) -> dict[str, Any]:
    namespaces = ["--net"] if os.geteuid() == 0 else ["--net", "--user", "--map-root-user"]
    told = subprocess.run(
        ["unshare", *namespaces, sys.executable, "-m", "tests.integration.runtime.isolated", str(home)]
        + [f"{name}={value}" for name, value in variables.items()],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    answers: dict[str, Any] = json.loads(told.stdout)
    return answers


def test_an_offline_server_serves_its_cache_and_asks_nobody(home: Path) -> None:
    assert _isolated(home, DEFAULT_EMBEDDING_MODEL=EMBEDDER) == {
        "health": "ready",
        "models": {"embedding_models": [EMBEDDER], "reranking_models": [RERANKER]},
        "docs": 200,
        "default": 200,
        "on first use": 200,
        "well known, not cached": 404,
        "unknown": 404,
        "another revision": 404,
        "exit code": 0,
        "attempts": 0,
    }


def test_an_attempt_would_have_been_counted(home: Path) -> None:
    answers = _isolated(home, DEFAULT_EMBEDDING_MODEL=EMBEDDER, HF_HUB_OFFLINE="0")
    assert answers["attempts"] > 0
    # The hub is away, the cache is there.
    assert (answers["default"], answers["on first use"]) == (200, 200)
