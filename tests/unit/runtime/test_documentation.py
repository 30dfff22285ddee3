"""docs/configuration.md is what docs/generate.py makes of the settings."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_tables_of_the_configuration_are_current() -> None:
    told = subprocess.run(
        [sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
