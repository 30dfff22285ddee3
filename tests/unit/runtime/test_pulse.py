"""Signs of life: what they mean, and that another process sees them."""

import time
from pathlib import Path

import pytest

from embedding_runtime.pulse import Pulse, Signs, hung


@pytest.mark.parametrize(
    ("signs", "now", "expected"),
    [
        (Signs(beat=99, batch=0, build=0), 100, None),
        (Signs(beat=79, batch=0, build=0), 100, "its event loop"),
        (Signs(beat=99, batch=101, build=0), 100, None),
        (Signs(beat=99, batch=99.9, build=0), 100, "a batch that does not end"),
        (Signs(beat=1, batch=0, build=101), 100, None),
        (Signs(beat=99, batch=0, build=99.9), 100, "a session that does not get built"),
        (Signs(beat=1, batch=99.9, build=101), 100, "a batch that does not end"),
        (Signs(beat=0, batch=0, build=0), 60, None),
        (Signs(beat=0, batch=0, build=0), 100, "its start"),
    ],
)
def test_what_hangs_is_told(signs: Signs, now: float, expected: str | None) -> None:
    assert hung(signs, started=10, now=now, patience=20) == expected


def test_a_patient_server_waits_longer_for_a_start() -> None:
    assert hung(Signs(0, 0, 0), started=0, now=100, patience=200) is None


def test_the_other_side_sees_each_sign(tmp_path: Path) -> None:
    written, read = Pulse.create(tmp_path / "pulse"), Pulse(tmp_path / "pulse")
    assert read.read() == Signs(0, 0, 0)
    written.beat()
    before = read.read().beat
    assert 0 < before <= time.monotonic()
    with written.computing(5), written.building(7):
        signs = read.read()
        assert 4 < signs.batch - time.monotonic() <= 5
        assert 6 < signs.build - time.monotonic() <= 7
    after = read.read()
    assert (after.batch, after.build) == (0, 0)
    # Nobody may take the event loop, which stood still during the build, for hung.
    assert after.beat > before
    written.forget()
    assert read.read() == Signs(0, 0, 0)
