"""Small parts: a cluster's condition, kind's configuration, pinned versions, downloads, progress lines."""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import audit, tools, versions
from e2e.cluster.guard import Guard
from e2e.cluster.kind import Condition, condition, configuration, proxy_mode
from e2e.cluster.process import CommandError, Log
from e2e.cluster.progress import Progress, Running, table
from e2e.cluster.source import GO
from e2e.demo.watch import view

THREE = {"c-control-plane": "running", "c-worker": "running", "c-worker2": "running"}


@pytest.mark.parametrize(
    ("states", "complete", "expected"),
    [
        ({}, False, Condition.ABSENT),
        (THREE, True, Condition.UP),
        (THREE, False, Condition.UNFINISHED),
        ({**THREE, "c-worker": "exited"}, True, Condition.STOPPED),
        (dict.fromkeys(THREE, "exited"), True, Condition.STOPPED),
        (dict.fromkeys(THREE, "created"), False, Condition.UNFINISHED),
        ({"c-control-plane": "running"}, True, Condition.UNFINISHED),
    ],
)
def test_a_clusters_condition_follows_from_its_containers(
    states: dict[str, str], complete: bool, expected: Condition
) -> None:
    assert condition(states, complete) is expected


def test_kind_gets_one_control_plane_two_workers_the_models_and_no_host_port() -> None:
    written = json.loads(configuration("/models", "/audit", "nftables"))
    assert [node["role"] for node in written["nodes"]] == ["control-plane", "worker", "worker"]
    for node in written["nodes"]:
        assert node["extraMounts"][0] == {
            "hostPath": "/models",
            "containerPath": "/mirror-models",
            "readOnly": True,
        }
        assert "extraPortMappings" not in node


@pytest.mark.parametrize(
    ("system", "kernel", "mode"),
    [
        ("Linux", "6.18.44-fc", "nftables"),
        ("Linux", "5.13.0", "nftables"),
        ("Linux", "5.4.0-216-generic", "iptables"),
        ("Linux", "unheard of", "iptables"),
        ("Darwin", "4.0.1", "nftables"),
    ],
)
def test_kube_proxy_drops_what_no_service_takes_where_the_kernel_can(
    system: str, kernel: str, mode: str
) -> None:
    assert proxy_mode(system, kernel) == mode
    assert json.loads(configuration("/models", "/audit", mode))["networking"] == {"kubeProxyMode": mode}


def test_the_api_server_finds_its_audit_policy_and_writes_where_a_kubelet_serves_files() -> None:
    first, *workers = json.loads(configuration("/models", "/audit", "nftables"))["nodes"]
    mounted = first["extraMounts"][1]
    (patch,) = [json.loads(text)["apiServer"] for text in first["kubeadmConfigPatches"]]
    seen = {volume["mountPath"]: volume["hostPath"] for volume in patch["extraVolumes"]}
    assert mounted == {"hostPath": "/audit", "containerPath": audit.FOLDER, "readOnly": True}
    assert patch["extraArgs"]["audit-policy-file"] == f"{seen[mounted['containerPath']]}/{audit.POLICY_FILE}"
    assert patch["extraArgs"]["audit-log-path"].startswith(f"{seen[audit.LOG_FOLDER]}/")
    assert audit.LOG_FOLDER.startswith("/var/log/")
    assert not any("kubeadmConfigPatches" in worker for worker in workers)


@pytest.mark.parametrize(
    ("module", "dependency", "version"),
    [("kind", "sigs.k8s.io/kind", versions.KIND), ("kubernetes", "k8s.io/kubernetes", versions.KUBERNETES)],
)
def test_the_go_modules_pin_the_versions_that_are_named(module: str, dependency: str, version: str) -> None:
    pinned = re.search(rf"{re.escape(dependency)} (\S+)", (GO / module / "go.mod").read_text())
    assert pinned
    assert pinned[1] == version


def test_versions_are_read_as_a_shell_would() -> None:
    assert versions.parse("# why\nA=1  # because\n\nB=x/y:z\n") == {"A": "1", "B": "x/y:z"}


def test_a_download_is_checked_and_appears_only_complete(tmp_path: Path) -> None:
    program, guard = tmp_path / "kind", Guard()
    program.write_bytes(b"a program")
    log, target = Log(tmp_path / "log", guard), tmp_path / "bin" / "kind"
    published = tmp_path / "kind.sha256"
    published.write_text("0" * 64 + "  kind\n")
    with pytest.raises(CommandError, match="SHA-256"):
        tools.fetch(program.as_uri(), ".sha256", target, log)
    assert not target.exists()
    published.write_text(hashlib.sha256(b"a program").hexdigest())
    tools.fetch(program.as_uri(), ".sha256", target, log)
    assert target.read_bytes() == b"a program"
    assert target.stat().st_mode & 0o111
    guard.close()


def test_plain_output_has_a_heartbeat_with_seconds_and_the_last_line(tmp_path: Path) -> None:
    guard, stream = Guard(), io.StringIO()
    log = Log(tmp_path / "log", guard)
    log.say("first")
    log.say("compiling things")
    running = Running("go", log, started=-100.0)
    progress = Progress(stream)
    progress.tick([running])
    assert re.search(r"go \d+ s: compiling things", stream.getvalue())
    heard = stream.getvalue()
    progress.tick([running])
    assert stream.getvalue() == heard, "the next one is due 20 seconds later"
    guard.close()


def test_timings_are_aligned() -> None:
    lines = table([("a", 1.0, "x"), ("longer", 100.25, "")]).splitlines()
    assert [line.index(" s") for line in lines] == [lines[0].index(" s")] * 2


def model(conditions: list[dict[str, str]], generation: int = 1, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "m", "generation": 2},
        "status": {"observedGeneration": generation + 1, "conditions": conditions, **status},
    }


def entry(kind: str, status: str, reason: str, message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


@pytest.mark.parametrize(
    ("resource", "ready", "final", "words"),
    [
        pytest.param(
            {"metadata": {"name": "m", "generation": 1}}, False, False, "not looked", id="no status"
        ),
        pytest.param(
            model([entry("Ready", "True", "Ready")], generation=0),
            False,
            False,
            "not looked",
            id="old status",
        ),
        pytest.param(model([entry("Ready", "True", "Ready", "2 of 2")]), True, False, "2 of 2", id="ready"),
        pytest.param(
            model(
                [entry("Ready", "False", "Downloading", "fetching")],
                cache={"phase": "Downloading", "bytes": 40_000_000, "total": 91_000_000},
            ),
            False,
            False,
            "40 of 91 MB",
            id="downloading",
        ),
        pytest.param(
            model(
                [
                    entry("Cached", "False", "ModelNotFound", "404: x/y"),
                    entry("Ready", "False", "ModelNotFound"),
                ]
            ),
            False,
            True,
            "404: x/y",
            id="wrong id",
        ),
    ],
)
def test_progress_is_what_the_resource_says(
    resource: dict[str, Any], ready: bool, final: bool, words: str
) -> None:
    found = view(resource)
    assert (found.ready, found.final) == (ready, final)
    assert words in found.words
