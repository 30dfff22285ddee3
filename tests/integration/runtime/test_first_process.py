"""The first process of a container, from which the kernel keeps every signal that it has no handler for."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.runtime.server import environment

USER = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
APART = ["unshare", *USER, "--pid", "--fork", "--kill-child"]
NOWHERE = {
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "HF_HUB_OFFLINE": "0",
    "MODEL_ID": "org/model",
    "PREFETCH_RETRY_SECONDS": "300",
}


def test_it_ends_when_it_is_told_to(tmp_path: Path) -> None:
    command = [*APART, sys.executable, "-m", "embedding_runtime", "prefetch"]
    with subprocess.Popen(command, env=environment(tmp_path, **NOWHERE), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()  # it is at work, and would go on for minutes
        first = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        os.kill(first, signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
