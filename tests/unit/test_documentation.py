"""What is generated in docs is current."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_what_is_generated_in_the_documentation_is_current() -> None:
    told = subprocess.run(
        [sys.executable, ROOT / "docs/generate", "--check"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
