"""Calibrations that outlive the process."""

from pathlib import Path

import pytest

from embedding_runtime.engine.calibration import Calibration
from embedding_runtime.engine.kept import kept
from tests.unit.runtime.fakes import COSTS


def _never() -> Calibration:
    raise AssertionError("measured again")


def test_what_was_measured_once_is_not_measured_again(tmp_path: Path) -> None:
    assert kept([tmp_path], "key", lambda: COSTS) == COSTS
    assert kept([tmp_path], "key", _never) == COSTS
    assert [path.suffix for path in (tmp_path / "calibrations").iterdir()] == [".json"]


def test_another_machine_or_graph_is_measured_by_itself(tmp_path: Path) -> None:
    other = Calibration(((16, ((1, 2.0),)),), best_tokens=16)
    kept([tmp_path], "key", lambda: COSTS)
    assert kept([tmp_path], "other", lambda: other) == other


def test_a_second_folder_is_only_read(tmp_path: Path) -> None:
    mounted, own = tmp_path / "mounted", tmp_path / "own"
    kept([mounted], "key", lambda: COSTS)
    assert kept([own, mounted], "key", _never) == COSTS
    kept([own, mounted], "new", lambda: COSTS)
    assert len(list((mounted / "calibrations").iterdir())) == len(list((own / "calibrations").iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"curves": [], "best_tokens": 1}', b"\xff"])
def test_a_damaged_one_is_measured_and_replaced(tmp_path: Path, content: bytes) -> None:
    kept([tmp_path], "key", lambda: COSTS)
    (path,) = (tmp_path / "calibrations").iterdir()
    path.write_bytes(content)
    assert kept([tmp_path], "key", lambda: COSTS) == COSTS
    assert kept([tmp_path], "key", _never) == COSTS


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert kept([tmp_path / "file"], "key", lambda: COSTS) == COSTS
    assert kept([], "key", lambda: COSTS) == COSTS
