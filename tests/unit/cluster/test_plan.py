"""Decisions about a machine, as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from e2e.cluster.host import Daemon, Host
from e2e.cluster.plan import (
    GIB,
    Cached,
    RefusedError,
    announce,
    bytes_needed,
    check_disk,
    decide,
    source_refusal,
)

LAPTOP = Host(
    system="Linux",
    machine="x86_64",
    distribution="Debian GNU/Linux 12 (bookworm)",
    root=False,
    apt=True,
    systemd=True,
    docker=Daemon.RUNNING,
    docker_runtime="runc",
    buildx=True,
    podman=False,
    sys_resource=True,
    memory=16 * GIB,
    free=100 * GIB,
    hub=True,
    downloads=True,
    kind=None,
    kubectl=None,
    go=False,
)
BARE = replace(
    LAPTOP, root=True, systemd=False, docker=Daemon.ABSENT, docker_runtime="", buildx=False, hub=False
)
NOTHING = Cached(cluster=False, node_image=False, programs=False, base_image=False, models=False)
EVERYTHING = Cached(cluster=True, node_image=True, programs=True, base_image=True, models=True)


@pytest.mark.parametrize(
    ("host", "engine", "installs", "start", "shim"),
    [
        pytest.param(LAPTOP, "docker", False, "", False, id="a working docker is used as it is"),
        pytest.param(
            replace(LAPTOP, docker=Daemon.ABSENT, podman=True),
            "podman",
            False,
            "",
            False,
            id="podman without docker",
        ),
        pytest.param(replace(LAPTOP, podman=True), "docker", False, "", False, id="docker before podman"),
        pytest.param(BARE, "docker", True, "own", False, id="bare machine: install, start ourselves"),
        pytest.param(
            replace(BARE, sys_resource=False),
            "docker",
            True,
            "own",
            True,
            id="bare, missing capability: shim",
        ),
        pytest.param(replace(BARE, systemd=True), "docker", True, "systemd", False, id="bare with systemd"),
        pytest.param(
            replace(BARE, docker=Daemon.STOPPED, sys_resource=False),
            "docker",
            False,
            "own",
            True,
            id="daemons died",
        ),
        pytest.param(
            replace(BARE, docker=Daemon.RUNNING, docker_runtime="shim", sys_resource=False),
            "docker",
            False,
            "",
            False,
            id="our own daemon runs",
        ),
    ],
)
def test_the_engine_follows_from_the_machine(
    host: Host, engine: str, installs: bool, start: str, shim: bool
) -> None:
    plan = decide(host)
    assert (plan.engine, bool(plan.packages), plan.start, plan.shim) == (engine, installs, start, shim)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"docker": Daemon.ABSENT}, "install docker or podman"),
        ({"docker": Daemon.STOPPED}, "systemctl start docker"),
        ({"docker": Daemon.DENIED}, "group docker"),
        ({"docker": Daemon.ABSENT, "root": True, "apt": False}, "install docker or podman"),
        ({"sys_resource": False}, "CAP_SYS_RESOURCE"),
        ({"memory": GIB}, "memory"),
    ],
)
def test_what_is_missing_and_may_not_be_installed_is_said(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        decide(replace(LAPTOP, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"root": True}, ""),
        ({}, "root only"),
        ({"root": True, "apt": False}, "Debian and Ubuntu"),
        ({"system": "Darwin"}, "Linux only"),
    ],
)
def test_building_from_source_is_possible_only_where_it_works(changes: dict[str, Any], words: str) -> None:
    refusal = source_refusal(replace(LAPTOP, **changes))
    assert words in refusal
    assert bool(words) == bool(refusal)


def test_less_is_needed_the_more_there_is() -> None:
    partial = replace(NOTHING, programs=True)
    assert bytes_needed(NOTHING) > bytes_needed(partial) > bytes_needed(EVERYTHING)


def test_too_little_disk_is_refused_with_both_numbers_and_a_way_out() -> None:
    needed = bytes_needed(NOTHING)
    check_disk(needed, NOTHING)
    with pytest.raises(RefusedError) as refusal:
        check_disk(2 * GIB, NOTHING)
    for words in (f"{needed // GIB} GiB", "2.0 GiB", "XDG_CACHE_HOME"):
        assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("host", "cached", "expected", "unexpected"),
    [
        pytest.param(BARE, NOTHING, ["install with apt", "from source", "hub mirror"], [], id="bare"),
        pytest.param(LAPTOP, NOTHING, ["use the running docker"], ["install", "hub mirror"], id="laptop"),
        pytest.param(BARE, EVERYTHING, ["the cluster that is there"], ["from source"], id="second run"),
    ],
)
def test_the_announcement_is_short_and_tells_what_will_happen(
    host: Host, cached: Cached, expected: list[str], unexpected: list[str]
) -> None:
    lines = announce(host, decide(host), cached)
    text = "\n".join(lines)
    assert len(lines) <= 6
    assert all(words in text for words in expected)
    assert not any(text.startswith(words) or f"\n{words}" in text for words in unexpected)
