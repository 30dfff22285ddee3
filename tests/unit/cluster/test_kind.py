"""A cluster that is found is taken as it is, or is gone afterwards, so that a new one is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import kind
from e2e.cluster.engine import Engine
from e2e.cluster.guard import Guard
from e2e.cluster.kind import Cluster, Condition
from e2e.cluster.process import Log
from e2e.cluster.state import State

# three nodes that run, were complete once, and can be removed
ENGINE = """
case "$1" in
  ps) [ -e {folder}/removed ] || printf 'c-control-plane running\\nc-worker running\\nc-worker2 running\\n';;
  rm) touch {folder}/removed;;
esac
"""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    guard = Guard()
    yield Log(tmp_path / "log", guard)
    guard.close()


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def found(folder: Path, kubectl: str) -> Cluster:
    """Return a cluster that runs and whose API server answers as the script `kubectl` does."""
    state = State(folder / "cache", "c")
    program(state.binaries / "kubectl", kubectl)
    program(state.binaries / "kind", "exit 0")
    return Cluster(
        state, Engine(str(program(folder / "docker", ENGINE.format(folder=folder))), buildkit=False)
    )


def test_a_cluster_that_becomes_healthy_stays(tmp_path: Path, log: Log) -> None:
    cluster = found(tmp_path, "exit 0")
    cluster.revive(log)
    assert cluster.condition() is Condition.UP


def test_a_cluster_that_does_not_become_healthy_is_gone_and_no_longer_chosen(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "HEALTHY_SECONDS", 0.1)
    cluster = found(tmp_path, "exit 1")
    cluster.revive(log)
    assert cluster.condition() is Condition.ABSENT
    assert not cluster.usable()
    assert "a new one made" in log.path.read_text()


def test_a_pod_that_ended_in_the_middle_of_its_work_does_not_hold_a_cluster_up(
    tmp_path: Path, log: Log
) -> None:
    cluster = found(tmp_path, 'case "$*" in *" pods --all"*) exit 1;; esac')
    cluster.revive(log)
    assert cluster.condition() is Condition.UP
