"""What the suite makes of servers that cannot be measured."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.peers import KINDS
from bench.running import Absent, Peer
from bench.suite import _started


def _ends_at_once(name: str) -> Peer:
    def command(_port: int) -> Sequence[str]:
        return ["sh", "-c", "echo no such model; exit 3"]

    return Peer(name, "", "fp32", command, "/", list, list, "/", "/")


def test_a_peer_that_is_missing_or_does_not_start_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(KINDS, "missing", lambda *_: Absent("missing", "it is not installed"))
    monkeypatch.setitem(KINDS, "broken", lambda *_: _ends_at_once("broken"))
    with ExitStack() as stack:
        servers, about = _started(["missing", "broken"], tmp_path, tmp_path, stack)
    assert not servers
    assert about == {
        "missing": {"not_measured": "it is not installed"},
        "broken": {"not_measured": "it did not become ready"},
    }
    assert "no such model" in capsys.readouterr().err


def test_a_server_of_ours_that_does_not_start_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(KINDS, "ours", lambda *_: _ends_at_once("ours fp32"))
    with ExitStack() as stack, pytest.raises(RuntimeError, match="no such model"):
        _started(["ours"], tmp_path, tmp_path, stack)
