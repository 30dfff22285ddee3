"""Asking a registry through the engine, with a stand-in for docker that behaves as registries do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import engine
from e2e.cluster.engine import Engine
from e2e.cluster.guard import Guard
from e2e.cluster.process import CommandError, Log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    guard = Guard()
    yield Log(tmp_path / "log", guard)
    guard.close()


def stand_in(folder: Path, script: str) -> Engine:
    program = folder / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Engine(str(program), buildkit=False)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param(
            "echo 'v1: Pulling from kindest/node'; sleep 1; echo done", True, id="answers, takes long"
        ),
        pytest.param("exit 0", True, id="already there"),
        pytest.param("echo 'connection refused' >&2; exit 1", False, id="refused"),
        pytest.param("exec sleep 600", False, id="silence"),
    ],
)
def test_a_registry_answers_or_does_not(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch, script: str, expected: bool
) -> None:
    monkeypatch.setattr(engine, "REACH_SECONDS", 0.5)
    start = time.monotonic()
    assert stand_in(tmp_path, script).pull("kindest/node:v1", log) is expected
    assert time.monotonic() - start < 30


def test_a_pull_that_breaks_after_the_answer_is_an_error(tmp_path: Path, log: Log) -> None:
    with pytest.raises(CommandError, match="kindest/node"):
        stand_in(tmp_path, "echo 'v1: Pulling from kindest/node'; exit 1").pull("kindest/node:v1", log)


@pytest.mark.parametrize(
    ("program", "image", "expected"),
    [
        ("docker", "embedding-operator:1", "embedding-operator:1"),
        ("podman", "embedding-operator:1", "docker.io/library/embedding-operator:1"),
    ],
)
def test_an_image_has_the_name_that_a_node_will_look_for(program: str, image: str, expected: str) -> None:
    assert Engine(program, buildkit=False).reference(image) == expected


def test_node_containers_are_read_with_their_states(tmp_path: Path) -> None:
    program = stand_in(tmp_path, "printf 'c-control-plane running\\nc-worker exited\\n'").program
    assert engine.containers(program, "c") == {"c-control-plane": "running", "c-worker": "exited"}
