"""Whatever the OpenAPI document allows, and much that it does not, gets an answer that the document names."""

import subprocess
import sys
from pathlib import Path

from tests.integration.runtime.server import Server

# Every check but one: a request may be valid by the document and name a model that there is not.
CHECKS = ["--checks=all", "--exclude-checks=positive_data_acceptance", "--max-examples=50"]


def test_schemathesis_finds_nothing(made_server: Server, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    told = subprocess.run(
        [program, "run", f"{made_server.client.base_url}/openapi.json", "--no-color", "--seed=1", *CHECKS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert told.returncode == 0, told.stdout
    described = made_server.client.get("/openapi.json").json()["paths"]
    assert f"Tested: {sum(map(len, described.values()))}\n" in told.stdout
    assert "Traceback" not in made_server.log()
