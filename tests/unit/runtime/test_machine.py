"""What a measurement of a machine holds for."""

from pathlib import Path

import pytest

from embedding_runtime.engine.machine import cpu_name, identity

CPU = """\
processor\t: 0
model name\t: Great CPU 3000
cpu MHz\t\t: 2600.000
flags\t\t: sse avx512f amx_bf16

processor\t: 1
model name\t: Great CPU 3000
cpu MHz\t\t: 1400.000
"""


def _identity(tmp_path: Path, text: str, threads: int = 2) -> str:
    (tmp_path / "cpuinfo").write_text(text)
    return identity(threads, tmp_path / "cpuinfo")


@pytest.mark.parametrize(
    ("text", "threads", "same"),
    [
        (CPU.replace("2600", "3100"), 2, True),
        (CPU, 4, False),
        (CPU.replace(" amx_bf16", ""), 2, False),
        (CPU.replace("3000", "4000"), 2, False),
    ],
)
def test_it_holds_for_a_kind_of_cpu_and_its_threads(
    tmp_path: Path, text: str, threads: int, same: bool
) -> None:
    assert (_identity(tmp_path, text, threads) == _identity(tmp_path, CPU)) is same


def test_a_kernel_that_tells_nothing_is_a_machine_too(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    assert identity(2, missing) == identity(2, missing)
    assert cpu_name(missing) == "unknown CPU"
    (tmp_path / "cpuinfo").write_text(CPU)
    assert cpu_name(tmp_path / "cpuinfo") == "Great CPU 3000"
